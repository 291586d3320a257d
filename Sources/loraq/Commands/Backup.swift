import ArgumentParser
import JSONModel
import LinuxSystem
import LoraqClient
import WireProtocol

struct Backup: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Copy the broker's whole state into a new folder, while it runs.",
        discussion: """
            The broker makes the copy: its queue as it is at one moment, and every file that the queue names. Jobs go on \
            meanwhile. The folder is a home of its own: `loraqd --home FOLDER` goes on with it, on this or another machine, \
            or copy it to where the home was. Sockets and logs are not in it.
            """)

    @Argument(
        help: ArgumentHelp(
            "A folder that is empty or does not exist, on the broker's machine.",
            valueName: "folder"))
    var folder: String
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        let path = FilePath.absolute(folder)
        let name = "backup-\(UInt64.random(in: 0...UInt64.max))"
        let begin = MonotonicTime.now()
        while true {
            let reply = try session.call(
                .backup, ["backup": .string(name), "path": .string(path)]
            ).header
            guard reply["complete"]?.bool == true else {
                MonotonicSleep.wait(.milliseconds(100))
                if Interrupts.isInterrupted {
                    throw ToolError(.interrupted, "interrupted; the broker goes on copying")
                }
                continue
            }
            if session.json { return try session.print(json: reply) }
            let files = reply["files"]?.integer ?? 0
            let bytes = reply["bytes"]?.integer ?? 0
            let seconds = (MonotonicTime.now() - begin).seconds
            return try session.print(
                "\(path): \(HumanText.plural(files, "file")), \(HumanText.bytes(bytes)), \(HumanText.span(seconds: seconds))"
            )
        }
    }
}
