import JSONModel

/// What a run of the kit found, rule by rule, in the order in which the rules were tried.
public struct ConformanceReport: Sendable {
    public enum Verdict: String, Sendable {
        case pass
        case fail
        /// Could not be tried, because of an earlier failure or for want of an option.
        case skip
    }

    public struct Finding: Sendable {
        /// A short name, for programs.
        public var rule: String
        /// What docs/protocol.md asks for.
        public var statement: String
        public var verdict: Verdict
        /// What was seen instead, or why it was not tried.
        public var why: String?
    }

    public private(set) var findings: [Finding] = []

    public init() {}

    public var isConforming: Bool {
        !findings.isEmpty && !findings.contains { $0.verdict == .fail }
    }

    /// Notes what a rule's trial showed. A fault stays, and one that shows later counts too.
    ///
    /// - Parameter why: What was seen instead; nil: the rule is kept.
    mutating func note(_ rule: Rule, _ why: String?) {
        let finding = Finding(
            rule: rule.name, statement: rule.statement, verdict: why == nil ? .pass : .fail,
            why: why)
        guard let index = findings.firstIndex(where: { $0.rule == rule.name }) else {
            findings.append(finding)
            return
        }
        if findings[index].verdict == .pass { findings[index] = finding }
    }

    /// Names the rules that were not reached.
    mutating func skip(_ rules: [Rule], _ why: String) {
        for rule in rules where !findings.contains(where: { $0.rule == rule.name }) {
            findings.append(
                Finding(rule: rule.name, statement: rule.statement, verdict: .skip, why: why))
        }
    }

    public var json: JSONValue {
        let rules = findings.map { finding -> JSONValue in
            [
                "rule": .string(finding.rule), "statement": .string(finding.statement),
                "verdict": .string(finding.verdict.rawValue),
                "why": finding.why.map { .string($0) } ?? .null,
            ]
        }
        return ["conforms": .bool(isConforming), "rules": .array(rules)]
    }
}

/// One thing that docs/protocol.md asks for.
struct Rule: Sendable {
    let name: String
    let statement: String

    init(_ name: String, _ statement: String) {
        self.name = name
        self.statement = statement
    }
}

/// Ends a scenario: the rule that it stands at is broken, and what follows cannot be tried.
struct Broken: Error {
    let rule: Rule
    let why: String
}

/// What went wrong with the kit itself.
public struct ConformanceError: Error, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
}
