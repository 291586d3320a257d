import ArgumentParser
import JSONModel
import LinuxSystem
import LoraqClient

struct Keys: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Let clients on other machines in: add, list, remove.",
        discussion: """
            The broker takes them by TCP when it is started with `--listen ADDRESS:PORT` (loraqd and `loraq up`). Everything \
            is encrypted by CURVE, and only clients on this list get in. Each may do all that the broker's own user may do \
            with `loraq`. These commands work on the home folder; the broker need not run, or be restarted.
            """,
        subcommands: [Add.self, List.self, Remove.self], defaultSubcommand: List.self)

    struct Add: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make the keys of one client, and write the file that it needs.",
            discussion: """
                Carry the file to the other machine by a safe way and put it into a folder of its own as `broker.json`: \
                `loraq --home FOLDER jobs` there speaks to this broker. It holds the client's secret key.
                """)
        @Argument(help: "A name for the client.") var name: String
        @Option(
            help: ArgumentHelp(
                "How the client reaches this machine, with the port given to --listen.",
                valueName: "host:port"))
        var address: String
        @Option(
            name: .shortAndLong,
            help: ArgumentHelp("Where to write the client's file.", valueName: "file"))
        var output = RemoteBroker.fileName
        @OptionGroup var common: CommonOptions

        func run() throws {
            try NameCheck.check(name, what: "the client's name")
            guard let mark = address.lastIndex(of: ":"),
                let port = Int(address[address.index(after: mark)...]), (1...65_534).contains(port),
                mark > address.startIndex, !address.contains("/")
            else {
                throw ToolError.usage("--address must be HOST:PORT, like example.org:7420")
            }
            let path = FilePath.absolute(output)
            guard !FilePath.exists(path) else {
                throw ToolError.usage("\(path) exists already; name another file with -o")
            }
            let folder = KeyFolder(try Session.home(common))
            let broker = try folder.add(name, host: String(address[..<mark]), port: port)
            do {
                try DurableFile.write(broker.json.text(pretty: true) + "\n", to: path)
            } catch {
                _ = try folder.remove(name)
                throw ToolError(.failure, "\(error)")
            }
            try StandardStreams.print(
                common.json
                    ? JSONValue.object(["client": .string(name), "file": .string(path)]).text(
                        pretty: false)
                    : "\(name) may connect to \(broker.control) with \(path)", terminator: "\n")
        }
    }

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List the clients that are let in.")
        @OptionGroup var common: CommonOptions

        func run() throws {
            let names = try KeyFolder(try Session.home(common)).names()
            if common.json {
                let list = JSONValue.object(["clients": .array(names.map { .string($0) })])
                return try StandardStreams.print(list.text(pretty: false), terminator: "\n")
            }
            for name in names { try StandardStreams.print(name, terminator: "\n") }
        }
    }

    struct Remove: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Shut a client out: its key opens no new connection.")
        @Argument(help: "The client's name.") var name: String
        @OptionGroup var common: CommonOptions

        func run() throws {
            try NameCheck.check(name, what: "the client's name")
            guard try KeyFolder(try Session.home(common)).remove(name) else {
                throw ToolError(.failure, "there is no client \(name)", hint: "loraq keys list")
            }
            try StandardStreams.print(
                common.json
                    ? JSONValue.object(["removed": .string(name)]).text(pretty: false)
                    : "\(name) is shut out", terminator: "\n")
        }
    }
}
