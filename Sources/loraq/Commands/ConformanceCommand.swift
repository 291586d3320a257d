import ArgumentParser
import Conformance
import Foundation
import JSONModel
import WireProtocol

struct ConformanceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "conformance",
        abstract: "Try a worker or a client in any language against the protocol.",
        discussion: """
            The kit plays the broker, loses answers on purpose, and tells of each rule of docs/protocol.md whether the program \
            keeps it. Needs no broker. Exit code 1 if a rule is broken.
            """,
        subcommands: [WorkerCommand.self, ClientCommand.self])

    struct WorkerCommand: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "worker",
            abstract: "Try a worker program, started as loraqd would start it.",
            discussion: """
                It is given tasks of one kind with lines. With --long-kind also one long task, to cancel and to preempt. \
                For example: loraq conformance worker -- python examples/worker.py
                """)

        @Option(help: "Its kind that takes lines (default: the first that it names).")
        var kind: String?
        @Option(
            name: .customLong("class"),
            help: "The resource class of that kind (needed if it has several classes).")
        var resourceClass: String?
        @Option(help: "The spec of the tasks, JSON.") var spec = "{}"
        @Option(help: "A line of that kind, JSON; custom_id is put in.") var line =
            #"{"text": "one two three"}"#
        @Option(help: "A kind of one task that runs until it is stopped.") var longKind: String?
        @Option(help: "Its resource class (default: that of --class).") var longClass: String?
        @Option(help: "Its spec, JSON.") var longSpec = "{}"
        @Option(help: "What it is told to be called (LORAQ_PLUGIN).") var plugin = "probe"
        @OptionGroup var common: ConformanceOptions

        func run() throws {
            var work = WorkerConformance.Work()
            work.kind = try kind.map { try ConformanceOptions.name($0, "--kind") }
            work.resourceClass = try resourceClass.map {
                try ConformanceOptions.name($0, "--class")
            }
            work.longKind = try longKind.map { try ConformanceOptions.name($0, "--long-kind") }
            work.longClass = try longClass.map { try ConformanceOptions.name($0, "--long-class") }
            work.plugin = try ConformanceOptions.name(plugin, "--plugin")
            work.spec = try ConformanceOptions.object(spec, "--spec")
            work.line = try ConformanceOptions.object(line, "--line")
            work.longSpec = try ConformanceOptions.object(longSpec, "--long-spec")
            work.deadlineS = common.timeout
            var kit = try WorkerConformance(command: common.command, work: work)
            try common.finish(kit.run())
        }
    }

    struct ClientCommand: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "client",
            abstract:
                "Try a client program: it must submit a job of lines, wait, and print the answers.",
            discussion: """
                The program finds its broker by LORAQ_HOME ($LORAQ_HOME/run/control). It is run three times: accepted, refused, \
                and without a broker.
                """)

        @Option(help: "What the answers of a plugin's own kind hold, JSON; custom_id is put in.")
        var answer = "{}"
        @OptionGroup var common: ConformanceOptions

        func run() throws {
            let kit = ClientConformance(
                command: common.command, answer: try ConformanceOptions.object(answer, "--answer"),
                deadlineS: common.timeout)
            try common.finish(kit.run())
        }
    }
}

/// What both take.
struct ConformanceOptions: ParsableArguments {
    @Flag(help: "One JSON document.") var json = false
    @Option(help: ArgumentHelp("How long anything may take.", valueName: "seconds")) var timeout =
        30.0
    @Argument(
        parsing: .postTerminator,
        help: ArgumentHelp("After `--`: the program and its arguments.", valueName: "command"))
    var command: [String] = []

    mutating func validate() throws {
        if command.isEmpty { throw ValidationError("give the program after `--`") }
        guard timeout > 0, timeout < 1e6 else {
            throw ValidationError("--timeout must be above 0 seconds")
        }
    }

    static func name(_ text: String, _ option: String) throws -> WireName {
        guard let name = WireName(text: text) else {
            throw ToolError.usage("\(option) must be \(WireName.form), not `\(text)`")
        }
        return name
    }

    static func object(_ text: String, _ option: String) throws -> JSONValue {
        let value: JSONValue
        do { value = try JSONValue.parse(text) } catch {
            throw ToolError.usage("\(option) is not JSON: \(error)")
        }
        guard value.object != nil else { throw ToolError.usage("\(option) must be a JSON object") }
        return value
    }

    /// Prints the report and sets the exit code.
    func finish(_ report: ConformanceReport) throws {
        let terminal = Terminal.current
        if json {
            try StandardStreams.print(
                report.json.text(pretty: terminal.outputIsTerminal), terminator: "\n")
        } else {
            try StandardStreams.print(Self.text(report, terminal.style), terminator: "")
        }
        if !report.isConforming { throw ExitCode(ExitStatus.failure.rawValue) }
    }

    /// A line for each rule that was tried, below it what was seen instead; then what was not tried, by reason.
    static func text(_ report: ConformanceReport, _ style: TextStyle) -> String {
        let width = report.findings.map(\.rule.count).max() ?? 0
        var text = ""
        for finding in report.findings where finding.verdict != .skip {
            let word = finding.verdict.rawValue
            let rule = finding.rule.padding(toLength: width, withPad: " ", startingAt: 0)
            text += finding.verdict == .pass ? style.green(word) : style.red(word)
            text += "  \(rule)  \(finding.statement)\n"
            guard let why = finding.why else { continue }
            text += String(repeating: " ", count: width + 8)
            text += style.bold("seen: \(TextTable.oneLine(why))") + "\n"
        }
        var reasons: [(why: String, rules: [String])] = []
        for finding in report.findings where finding.verdict == .skip {
            let why = finding.why ?? ""
            if let index = reasons.firstIndex(where: { $0.why == why }) {
                reasons[index].rules.append(finding.rule)
            } else {
                reasons.append((why, [finding.rule]))
            }
        }
        for reason in reasons {
            text += style.yellow("skip")
            text += "  \(reason.rules.joined(separator: ", ")): \(reason.why)\n"
        }
        let broken = report.findings.count { $0.verdict == .fail }
        let kept = report.findings.count { $0.verdict == .pass }
        let skipped = report.findings.count - kept - broken
        return text
            + "\(HumanText.plural(kept, "rule")) kept, \(broken) broken, \(skipped) not tried\n"
    }
}
