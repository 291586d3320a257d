import JSONModel
import WireProtocol

/// A failed line in words: `line 17 (custom_id q-17)  BAD_LINE: body.temperature must be …`.
enum ErrorLine {
    static func text(of bytes: [UInt8], style: TextStyle) -> String {
        guard let json = try? JSONValue.parse(bytes) else {
            return TextTable.oneLine(String(decoding: bytes, as: UTF8.self))
        }
        var place: [String] = []
        let error = error(in: json)
        if let line = (json["line"] ?? error?["line"])?.integer { place.append("line \(line)") }
        if let id = json["custom_id"]?.string {
            place.append("custom_id \(TextTable.oneLine(String(id.prefix(64))))")
        }
        let code = error?["code"]?.string ?? json["code"]?.string ?? "ERROR"
        let message =
            error?["message"]?.string ?? json["message"]?.string
            ?? TextTable.oneLine(String(decoding: bytes, as: UTF8.self))
        let hint = (error?["hint"]?.string).map { " (\($0))" } ?? ""
        let front = place.isEmpty ? "" : place.joined(separator: ", ") + "  "
        return front + style.red(TextTable.oneLine(code)) + ": "
            + TextTable.oneLine(message + hint)
    }

    /// The error itself, for the only line of its job.
    static func error(of line: JSONValue) -> ErrorObject {
        guard let error = error(in: line), let message = error["message"]?.string else {
            return ErrorObject(
                .internalError, .internal, "a line without an answer: \(line.text())")
        }
        return ErrorObject(
            ErrorCode(error["code"]?.string ?? "ERROR"),
            error["class"]?.string.flatMap(ErrorClass.init) ?? .user, message,
            hint: error["hint"]?.string, details: error["details"])
    }

    /// OpenAI's error line puts the error beside `response` or into its body.
    private static func error(in json: JSONValue) -> JSONValue? {
        for candidate in [json["error"], json["response"]?["body"]?["error"]] {
            if let candidate, candidate.object != nil { return candidate }
        }
        return nil
    }
}
