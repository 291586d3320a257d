import ArgumentParser
import Foundation
import LoraqClient
import WireProtocol

/// How `loraq` ends. The numbers stand in `--help` and docs/cli.md and do not change.
enum ExitStatus: Int32, CaseIterable {
    case success = 0
    /// A job failed, or the broker refused a request, or a check found a failure.
    case failure = 1
    /// Wrong arguments, or an input file or recipe that cannot be used.
    case usage = 2
    case brokerUnreachable = 3
    case timeout = 4
    /// The job ended well, but some of its lines failed.
    case someLinesFailed = 5
    case interrupted = 130

    var explanation: String {
        switch self {
        case .success: "everything asked for was done"
        case .failure:
            "a job failed, was cancelled or skipped, or the broker refused the request"
        case .usage: "wrong arguments, or an input file or recipe that cannot be used"
        case .brokerUnreachable: "no broker runs, or it cannot be reached"
        case .timeout: "--timeout ran out, or the broker did not answer in time"
        case .someLinesFailed: "the job ended, but some of its lines failed"
        case .interrupted: "stopped by Ctrl-C (a job that was waited for goes on)"
        }
    }
}

/// An error of the tool itself: what, where, and what to do.
struct ToolError: Error, CustomStringConvertible {
    let status: ExitStatus
    let message: String
    let hint: String?
    /// The error of a job or a line that stands behind it: its code is kept for machines.
    let answer: ErrorObject?

    init(
        _ status: ExitStatus, _ message: String, hint: String? = nil, answer: ErrorObject? = nil
    ) {
        self.status = status
        self.message = message
        self.hint = hint
        self.answer = answer
    }

    /// Something failed with an error that has a code of its own.
    init(_ answer: ErrorObject, hint: String? = nil) {
        self.init(.failure, answer.message, hint: answer.hint ?? hint, answer: answer)
    }

    static func usage(_ message: String, hint: String? = nil) -> ToolError {
        ToolError(.usage, message, hint: hint)
    }

    var description: String { message }

    /// A short reason out of a Foundation or system error, without domain and code dumps.
    static func reason(_ error: any Error) -> String {
        let bridged = error as NSError
        if let under = bridged.userInfo[NSUnderlyingErrorKey] as? NSError,
            under.domain == NSPOSIXErrorDomain
        {
            return systemMessage(Int32(under.code))
        }
        if bridged.domain == NSPOSIXErrorDomain { return systemMessage(Int32(bridged.code)) }
        return "\(error)"
    }

    static func systemMessage(_ code: Int32) -> String { String(cString: strerror(code)) }
}
