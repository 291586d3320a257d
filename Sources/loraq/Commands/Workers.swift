import ArgumentParser
import JSONModel
import LoraqClient
import WireProtocol

struct Workers: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Worker processes: list, scale, drain.",
        subcommands: [List.self, Scale.self, Drain.self], defaultSubcommand: List.self)

    struct List: SessionCommand {
        static let configuration = CommandConfiguration(abstract: "List workers and plugins.")
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            let reply = try session.call(.workers)
            if session.json { return try session.print(json: reply.header) }
            try session.print(
                WorkerText.text(
                    reply.header, style: session.style, width: session.terminal.outputWidth),
                terminator: "")
        }
    }

    struct Scale: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Set how many instances of a plugin run.")
        @Argument(help: "The plugin's name.") var name: String
        @Argument(help: "How many.") var instances: Int
        @OptionGroup var common: CommonOptions

        mutating func validate() throws {
            if instances < 0 { throw ValidationError("the number must be at least 0") }
        }

        func run(_ session: Session) throws {
            try NameCheck.check(name, what: "the plugin")
            let reply = try session.call(
                .scale, ["plugin": .string(name), "instances": .integer(Int64(instances))])
            if session.json { return try session.print(json: reply.header) }
            try session.print("\(name): \(HumanText.plural(instances, "instance"))")
        }
    }

    struct Drain: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Let workers finish what they hold and take nothing new.")
        @Argument(help: "One worker's instance (default: all).") var instance: String?
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            var header = JSONObject()
            header["worker"] = instance.map { .string($0) }
            let reply = try session.call(.drain, header)
            if session.json { return try session.print(json: reply.header) }
            let names = (reply.header["draining"]?.array ?? []).compactMap(\.string)
            try session.print(
                names.isEmpty ? "nothing to drain" : "draining " + names.joined(separator: ", "))
        }
    }
}
