import ArgumentParser
import JSONModel
import LoraqClient
import WireProtocol

struct Retry: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a job's failed tasks again.")

    @Argument(help: ArgumentHelp("A job.", valueName: "job")) var job: String
    @Flag(help: "Only tasks that did not succeed (the default).") var failed = false
    @Flag(help: "All tasks, also those that succeeded.") var all = false
    @Option(help: "`any`: go on on workers that compute with other numerics.") var numerics: String?
    @OptionGroup var common: CommonOptions
    @OptionGroup var waiting: WaitOptions

    mutating func validate() throws {
        if failed, all { throw ValidationError("--failed and --all exclude each other") }
        if let numerics, numerics != "any" {
            throw ValidationError("--numerics can only be `any`, not `\(numerics)`")
        }
    }

    func run(_ session: Session) throws {
        let id = try session.client.job(job).id
        var header: JSONObject = ["job": .string(id), "only": .string(all ? "all" : "failed")]
        header["numerics"] = numerics.map { .string($0) }
        let reply = try session.call(.retry, header, policy: .once)
        let count = reply.header["tasks"]?.integer ?? 0
        if !waiting.wait {
            if session.json { return try session.print(json: reply.header) }
            return try session.print(
                "\(id)  \(session.style.state(reply.header["state"]?.string ?? ""))  "
                    + "\(HumanText.plural(count, "task")) again")
        }
        session.note("\(HumanText.plural(count, "task")) again")
        let ended = try JobWaiter(session: session, options: waiting).wait(for: [id])
        for job in ended {
            if session.json {
                try session.print(json: job.json)
            } else {
                try session.print("\(job.id)  \(session.style.state(job.state))\(Wait.remark(job))")
            }
        }
        try JobWaiter.finish(ended)
    }
}
