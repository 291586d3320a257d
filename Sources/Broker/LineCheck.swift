import BrokerCore
import JSONModel
import WireProtocol

/// What a batch file's lines are checked against.
struct LineRules: Sendable {
    /// Lines of kind `infer` have the shape of OpenAI's batch lines; lines of a plugin's own kinds
    /// are objects with a `custom_id`.
    var isInference: Bool
    /// The model of lines that name none.
    var defaultModel: Wire.ArtifactReference?
    /// Says why a reference cannot be used; nil when it names something registered, or something
    /// that a job before this one produces.
    var refusal: @Sendable (String) -> BrokerError?
}

/// What was found in a line.
struct CheckedLine: Sendable, Equatable {
    var customID: String
    /// The artifact reference that the line runs on.
    var model: String?
}

/// Why a line is not run.
struct LineFault: Error, Sendable, Equatable {
    var code: ErrorCode
    var message: String
    /// The line's id where it could be read.
    var customID: String?
}

extension LineRules {
    /// Checks everything about a line that can be said without a model.
    func check(_ bytes: [UInt8]) throws(LineFault) -> CheckedLine {
        let line = try parse(bytes)
        if let model = line.model, let refusal = refusal(model) {
            throw LineFault(
                code: refusal.code, message: "`body.model`: \(refusal.message)",
                customID: line.customID)
        }
        return line
    }

    /// Reads a line's id and model.
    func parse(_ bytes: [UInt8]) throws(LineFault) -> CheckedLine {
        let value: JSONValue
        do {
            value = try JSONValue.parse(bytes)
        } catch {
            throw LineFault(
                code: .badLine, message: "not JSON: \(error.message) (column \(error.column))")
        }
        do {
            let line = try BatchLine(
                value, isInfer: isInference, defaultModel: defaultModel)
            return CheckedLine(customID: line.customID, model: line.model?.text)
        } catch {
            let id = value["custom_id"]?.string.flatMap {
                (1...BatchLine.customIDBytes).contains($0.utf8.count) ? $0 : nil
            }
            throw LineFault(
                code: ErrorCode(rawValue: error.code.rawValue), message: error.message,
                customID: id)
        }
    }
}
