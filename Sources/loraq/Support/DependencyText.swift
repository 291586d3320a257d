import JSONModel
import WireProtocol

/// `--after`: `JOB`, `JOB:success`, `JOB:finish` or `JOB:METRIC<VALUE`.
struct DependencyText: Equatable {
    let selector: String
    let on: String
    let condition: JSONValue?

    private static let operators = ["<=", ">=", "==", "!=", "<", ">"]

    init(_ text: String) throws(ToolError) {
        guard let colon = text.lastIndex(of: ":") else {
            (selector, on, condition) = (text, "success", nil)
            return
        }
        let before = String(text[..<colon])
        let rest = String(text[text.index(after: colon)...])
        if rest == "success" || rest == "finish" {
            (selector, on, condition) = (before, rest, nil)
            return
        }
        for symbol in Self.operators {
            let parts = rest.split(
                separator: symbol, maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2 else { continue }
            guard WireName(text: String(parts[0])) != nil, let value = Double(parts[1]),
                value.isFinite
            else {
                throw ToolError.usage(
                    "--after \(text): a condition is METRIC\(symbol)NUMBER",
                    hint: "for example --after last:eval_loss<0.5 (quote it for the shell)")
            }
            selector = before
            on = "success"
            condition = .object([
                "metric": .string(String(parts[0])), "op": .string(symbol), "value": .number(value),
            ])
            return
        }
        throw ToolError.usage(
            "--after \(text): after the colon comes success, finish, or a condition like loss<0.5")
    }
}
