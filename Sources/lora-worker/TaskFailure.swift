import Datasets
import FineTuning
import Generation
import JSONModel
import LinuxSystem
import LoRA
import ModelFiles
import Tokenization
import Transformer
import WireProtocol

/// An error as the broker is told of it: whose it is, what was wrong and where, what to do.
struct TaskFailure: Error, CustomStringConvertible {
    let error: ErrorObject
    /// The field of a request line at fault.
    let field: String?

    init(_ error: ErrorObject, field: String? = nil) {
        self.error = error
        self.field = field
    }

    /// An error of the person's, which trying again does not mend.
    static func user(
        _ code: ErrorCode, _ message: String, hint: String? = nil, field: String? = nil
    ) -> TaskFailure {
        TaskFailure(ErrorObject(code, .user, message, hint: hint), field: field)
    }

    var description: String { error.description }

    /// The same in the person's words: what lies at a path of the broker's is called by the name that it has in the job.
    func calling(_ names: [(path: String, name: String)]) -> TaskFailure {
        var error = error
        for (path, name) in names where !path.isEmpty {
            error.message = error.message.replacing(path, with: name)
            error.hint = error.hint?.replacing(path, with: name)
        }
        return TaskFailure(error, field: field)
    }

    /// Sorts whatever a kind's work threw.
    init(sorting failure: any Error) {
        switch failure {
        case let failure as TaskFailure: self = failure
        case let failure as ErrorObject: self.init(failure)
        case let failure as WireError: self.init(failure.errorObject)
        case let failure as GenerationError:
            let isOurs = failure.code == .engine || failure.code == .notFinite
            self.init(
                ErrorObject(
                    ErrorCode(failure.code.rawValue), isOurs ? .retryable : .user,
                    failure.description),
                field: failure.field)
        case let failure as FineTuneError:
            let isTheirs = failure.code != .checkpoint && failure.code != .compute
            self.init(
                ErrorObject(
                    ErrorCode(failure.code.rawValue), isTheirs ? .user : .retryable,
                    failure.description))
        case let failure as DatasetError:
            self = .user(ErrorCode(failure.code.rawValue), failure.description)
        case let failure as ModelFileError:
            let isUnknown = failure.code == .unsupported && failure.file.hasSuffix("/config.json")
            self = .user(
                "BAD_MODEL", "\(failure)",
                hint: isUnknown
                    ? "the PEFT worker computes what transformers does: --worker peft (workers/peft/README.md)"
                    : nil)
        case let failure as LoRAError: self = .user("BAD_ADAPTER", "\(failure)")
        case let failure as TokenizerError: self = .user("BAD_TOKENIZER", "\(failure)")
        case let failure as TransformerError: self = .user("BAD_MODEL", "\(failure)")
        case let failure as SystemError where failure.isOutOfSpace:
            self.init(
                ErrorObject(
                    "NO_SPACE", .retryable, "\(failure)",
                    hint: "free disk space below the home folder"))
        case let failure as SystemError: self.init(ErrorObject("SYSTEM", .retryable, "\(failure)"))
        default: self.init(ErrorObject(.internalError, .retryable, "\(failure)"))
        }
    }
}

extension ErrorCode: ExpressibleByStringLiteral {
    public init(stringLiteral value: String) { self.init(value) }
}
