import ArgumentParser
import Foundation
import Glibc
import JSONModel
import LoraqClient
import WireProtocol

/// Parses, runs, and turns whatever was thrown into one message and an exit code.
enum EntryPoint {
    static func run(_ arguments: [String]) -> Int32 {
        Interrupts.install()
        var wantsJSON = arguments.contains("--json")
        do {
            let arguments = hoistingHome(arguments)
            try CommandNames.check(arguments)
            var command = try parse(arguments)
            wantsJSON = (command as? any CommonCommand)?.common.json ?? wantsJSON
            try command.run()
            return ExitStatus.success.rawValue
        } catch {
            return report(error, asJSON: wantsJSON)
        }
    }

    private static func parse(_ arguments: [String]) throws -> any ParsableCommand {
        do {
            return try Loraq.parseAsRoot(arguments)
        } catch {
            let message = Loraq.message(for: error)
            if Loraq.exitCode(for: error) == .validationFailure,
                let number = CommandNames.negativeNumber(in: arguments),
                message.contains("Missing expected argument")
                    || message.contains("Unknown option '\(number)'")
            {
                throw ToolError.usage("`\(number)` is below 0: no number here can be")
            }
            throw error
        }
    }

    /// Lets `--home` and `--json` stand before the subcommand too: `loraq --home DIR jobs`.
    static func hoistingHome(_ arguments: [String]) -> [String] {
        var rest = arguments[...]
        var options: [String] = []
        while let first = rest.first {
            if first == "--home", rest.count >= 2 {
                options += rest.prefix(2)
                rest = rest.dropFirst(2)
            } else if first.hasPrefix("--home=") || first == "--json" {
                options.append(first)
                rest = rest.dropFirst()
            } else {
                break
            }
        }
        return options.isEmpty || rest.isEmpty ? arguments : insert(options, into: Array(rest))
    }

    /// Puts options after the subcommand's words, before anything that may end the options.
    private static func insert(_ options: [String], into arguments: [String]) -> [String] {
        guard let command = arguments.first, !command.hasPrefix("-") else {
            return arguments + options
        }
        let words = max(1, CommandNames.words(of: arguments))
        return Array(arguments[..<words]) + options + Array(arguments[words...])
    }

    // MARK: Errors

    static func report(_ error: any Error, asJSON: Bool) -> Int32 {
        switch error {
        case let code as ExitCode: return code.rawValue
        case let error as ToolError:
            show(error, asJSON: asJSON)
            return error.status.rawValue
        case let error as ClientError:
            let status = status(of: error)
            show(error.message, hint: error.hint, status: status, answer: error.answer, asJSON)
            return status.rawValue
        default: return reportParsing(error, asJSON: asJSON)
        }
    }

    static func show(_ error: ToolError, asJSON: Bool) {
        show(error.message, hint: error.hint, status: error.status, answer: error.answer, asJSON)
    }

    static func status(of error: ClientError) -> ExitStatus {
        switch error.kind {
        case .unreachable: .brokerUnreachable
        case .timeout: .timeout
        case .interrupted: .interrupted
        case .badRequest: .usage
        case .refused, .file, .badAnswer: .failure
        }
    }

    private static func show(
        _ message: String, hint: String?, status: ExitStatus, answer: ErrorObject?, _ asJSON: Bool
    ) {
        if asJSON {
            var object: JSONObject = [
                "code": .string(answer?.code.rawValue ?? word(for: status)),
                "class": .string(answer?.class.rawValue ?? "user"), "message": .string(message),
            ]
            object["hint"] = hint.map { .string($0) }
            object["retry_after_ms"] = answer?.retryAfterMs.map { .integer(Int64($0)) }
            object["details"] = answer?.details
            StandardStreams.note(JSONValue.object(["error": .object(object)]).text())
            return
        }
        let style = Terminal.current.errorStyle
        let code = answer.map { " (\($0.code))" } ?? ""
        // An interrupt is what the person wanted, and no error.
        let front = status == .interrupted ? "" : style.red("error: ")
        StandardStreams.note(front + TextTable.oneLine(message) + code)
        if let hint {
            StandardStreams.note((front.isEmpty ? "" : "       ") + TextTable.oneLine(hint))
        }
    }

    private static func word(for status: ExitStatus) -> String {
        switch status {
        case .brokerUnreachable: "UNREACHABLE"
        case .timeout: "TIMEOUT"
        case .interrupted: "INTERRUPTED"
        case .usage: "USAGE"
        case .success, .failure, .someLinesFailed: "FAILED"
        }
    }

    /// Help, version and completion scripts go to standard output; wrong arguments to standard error.
    private static func reportParsing(_ error: any Error, asJSON: Bool) -> Int32 {
        switch Loraq.exitCode(for: error) {
        case .success:
            do {
                try StandardStreams.print(Loraq.fullMessage(for: error))
                return ExitStatus.success.rawValue
            } catch {
                return report(error, asJSON: asJSON)
            }
        case .validationFailure:
            if asJSON {
                show(
                    Loraq.message(for: error), hint: "`loraq COMMAND --help` lists what it takes",
                    status: .usage, answer: nil, true)
            } else {
                StandardStreams.note(Loraq.fullMessage(for: error))
            }
            return ExitStatus.usage.rawValue
        default:
            // An error of the system's or of Foundation's, without its domain and code.
            show(ToolError.reason(error), hint: nil, status: .failure, answer: nil, asJSON)
            return ExitStatus.failure.rawValue
        }
    }
}
