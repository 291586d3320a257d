import ArgumentParser
import LoraqClient
import WireProtocol

struct Explain: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say the one thing that a job waits for.")

    @Argument(help: ArgumentHelp("A job.", valueName: "job"))
    var job = "last"
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        let id = try session.client.job(job).id
        let reply = try session.call(.explain, ["job": .string(id)])
        if session.json { return try session.print(json: reply.header) }
        let reason = reply.header["reason"]
        var lines = FieldLines(style: session.style)
        lines.add("job", id)
        lines.add("state", session.style.state(reply.header["state"]?.string ?? ""))
        lines.add("reason", reason?["message"]?.string ?? "-")
        if let code = reason?["code"]?.string { lines.add("code", code) }
        for entry in reason?["details"]?.object?.entries ?? [] {
            lines.add(entry.key, JobText.scalar(entry.value))
        }
        try session.print(lines.text, terminator: "")
    }
}
