import JSONModel

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

    /// The same without the place, for the only line of its job.
    static func message(of bytes: [UInt8]) -> String {
        guard let json = try? JSONValue.parse(bytes), let error = error(in: json),
            let message = error["message"]?.string
        else { return text(of: bytes, style: .plain) }
        return TextTable.oneLine("\(error["code"]?.string ?? "ERROR"): \(message)")
    }

    /// OpenAI's error line puts the error beside `response` or into its body.
    private static func error(in json: JSONValue) -> JSONValue? {
        for candidate in [json["error"], json["response"]?["body"]?["error"]] {
            if let candidate, candidate.object != nil { return candidate }
        }
        return nil
    }
}
