import JSONModel

/// One checked thing.
struct Finding: Equatable {
    enum Verdict: String { case ok, warn, fail }

    let verdict: Verdict
    let name: String
    let message: String
    let advice: String?

    static func ok(_ name: String, _ message: String) -> Finding {
        Finding(verdict: .ok, name: name, message: message, advice: nil)
    }
    static func warn(_ name: String, _ message: String, _ advice: String?) -> Finding {
        Finding(verdict: .warn, name: name, message: message, advice: advice)
    }
    static func fail(_ name: String, _ message: String, _ advice: String?) -> Finding {
        Finding(verdict: .fail, name: name, message: message, advice: advice)
    }

    var json: JSONValue {
        var object: JSONObject = [
            "name": .string(name), "status": .string(verdict.rawValue),
            "message": .string(message),
        ]
        object["hint"] = advice.map { .string($0) }
        return .object(object)
    }

    static func text(_ findings: [Finding], style: TextStyle) -> String {
        let width = findings.reduce(0) { max($0, $1.name.count) }
        return findings.map { finding in
            let verdict: String
            switch finding.verdict {
            case .ok: verdict = style.green("ok  ")
            case .warn: verdict = style.yellow("warn")
            case .fail: verdict = style.red("fail")
            }
            let gap = String(repeating: " ", count: width - finding.name.count)
            let line = "\(verdict)  \(finding.name)\(gap)  \(TextTable.oneLine(finding.message))\n"
            let indent = String(repeating: " ", count: width + 8)
            return line + (finding.advice.map { "\(indent)\(TextTable.oneLine($0))\n" } ?? "")
        }.joined()
    }
}
