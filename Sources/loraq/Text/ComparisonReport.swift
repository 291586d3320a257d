import JSONModel

/// Where the answers of two plugins to the same lines part.
struct ComparisonReport {
    /// A token of an answer, as `logprobs` tells it.
    struct Token: Equatable {
        var text: String
        /// Natural logarithm; nil for the first token of a prompt.
        var logprob: Double?
        var top: [String: Double]
    }

    /// How one line came out.
    struct Finding: Equatable {
        enum Verdict: String {
            /// The same tokens, scores within the tolerance.
            case equal
            /// The same tokens, but scores apart.
            case scores
            /// Other tokens from some place on.
            case parts
            /// Other tokens from a place on where both are about equally likely.
            case tie
            /// Both refused it alike.
            case refused
            /// Only one answered, or they refused it with different codes.
            case errors
        }

        var customID: String
        var verdict: Verdict
        /// Tokens compared: those before the lines part.
        var tokens = 0
        /// The largest difference of log probabilities over these tokens, in nats.
        var scoreDifference = 0.0
        /// What each takes where they part; or the error of each.
        var sides: [String] = []
        /// How much likelier its own token is than the other's, for each.
        var margins: [Double] = []
    }

    let job: String
    let names: [String]
    let jobs: [String]
    let tolerance: Double
    private(set) var lines = 0
    private(set) var counts: [String: Int] = [:]
    private(set) var tokens = 0
    private(set) var worstScore = 0.0
    private(set) var scoreSum = 0.0
    /// Those that are not `equal` or `refused`, the first ones.
    private(set) var findings: [Finding] = []

    static let keptFindings = 1000
    static let shownFindings = 20

    init(job: String, names: [String], jobs: [String], tolerance: Double) {
        self.job = job
        self.names = names
        self.jobs = jobs
        self.tolerance = tolerance
    }

    /// No line parts but at a tie, and no score lies further apart than the tolerance.
    var agrees: Bool {
        ["parts", "scores", "errors"].allSatisfy { counts[$0, default: 0] == 0 } && lines > 0
    }

    mutating func add(_ first: JSONValue, _ second: JSONValue) {
        let (finding, sum) = Self.compare(first, second, tolerance: tolerance)
        lines += 1
        counts[finding.verdict.rawValue, default: 0] += 1
        tokens += finding.tokens
        scoreSum += sum
        worstScore = max(worstScore, finding.scoreDifference)
        if ![.equal, .refused].contains(finding.verdict), findings.count < Self.keptFindings {
            findings.append(finding)
        }
    }

    /// - Returns: The finding, and the sum of the differences of scores.
    static func compare(
        _ first: JSONValue, _ second: JSONValue, tolerance: Double
    ) -> (Finding, scoreSum: Double) {
        let name = first["custom_id"]?.string ?? second["custom_id"]?.string ?? "?"
        var finding = Finding(customID: name, verdict: .equal)
        let errors = [first, second].map { $0["error"]?["code"]?.string }
        guard errors == [nil, nil] else {
            finding.verdict = errors[0] == errors[1] ? .refused : .errors
            finding.sides = errors.map { $0 ?? "answered" }
            return (finding, 0)
        }
        let ours = tokens(of: first)
        let theirs = tokens(of: second)
        var sum = 0.0
        for (one, other) in zip(ours, theirs) {
            guard one.text == other.text else {
                part(&finding, one, other, tolerance: tolerance)
                return (finding, sum)
            }
            finding.tokens += 1
            guard let a = one.logprob, let b = other.logprob else { continue }
            let difference = abs(a - b)
            finding.scoreDifference = max(finding.scoreDifference, difference)
            sum += difference
        }
        if ours.count != theirs.count {
            finding.verdict = .parts
            finding.sides = [ours, theirs].map {
                $0.count > finding.tokens ? $0[finding.tokens].text : "(end)"
            }
        } else if !(finding.scoreDifference <= tolerance) {
            finding.verdict = .scores
        } else if finishReason(first) != finishReason(second) {
            finding.verdict = .parts
            finding.sides = [first, second].map { finishReason($0) ?? "?" }
        }
        return (finding, sum)
    }

    private static func part(
        _ finding: inout Finding, _ one: Token, _ other: Token, tolerance: Double
    ) {
        finding.sides = [one.text, other.text]
        finding.verdict = .parts
        guard let a = margin(one, over: other.text), let b = margin(other, over: one.text) else {
            return
        }
        finding.margins = [a, b]
        if a <= tolerance, b <= tolerance, finding.scoreDifference <= tolerance {
            finding.verdict = .tie
        }
    }

    /// How much likelier a token is than another one at its place; nil where that is not among the likeliest.
    private static func margin(_ token: Token, over other: String) -> Double? {
        guard let own = token.logprob, let second = token.top[other] else { return nil }
        return own - second
    }

    private static func finishReason(_ line: JSONValue) -> String? {
        choice(line)?["finish_reason"]?.string
    }

    private static func choice(_ line: JSONValue) -> JSONValue? {
        line["response"]?["body"]?["choices"]?.array?.first
    }

    static func tokens(of line: JSONValue) -> [Token] {
        guard let scores = choice(line)?["logprobs"] else { return [] }
        if let content = scores["content"]?.array {
            return content.map { entry in
                var top: [String: Double] = [:]
                for other in entry["top_logprobs"]?.array ?? [] {
                    guard let text = other["token"]?.string, top[text] == nil else { continue }
                    top[text] = other["logprob"]?.double
                }
                return Token(
                    text: entry["token"]?.string ?? "", logprob: entry["logprob"]?.double, top: top)
            }
        }
        let texts = scores["tokens"]?.array ?? []
        let values = scores["token_logprobs"]?.array ?? []
        let tops = scores["top_logprobs"]?.array ?? []
        return texts.indices.map { index in
            var top: [String: Double] = [:]
            if index < tops.count {
                for entry in tops[index].object?.entries ?? [] {
                    top[entry.key] = entry.value.double
                }
            }
            return Token(
                text: texts[index].string ?? "",
                logprob: index < values.count ? values[index].double : nil, top: top)
        }
    }

    // MARK: Output

    private var meanScore: Double { tokens > 0 ? scoreSum / Double(tokens) : 0 }

    var json: JSONValue {
        var sums = JSONObject()
        for word in ["equal", "scores", "parts", "tie", "refused", "errors"] {
            sums[word] = .integer(Int64(counts[word] ?? 0))
        }
        return .object([
            "job": .string(job), "plugins": .array(names.map { .string($0) }),
            "jobs": .array(jobs.map { .string($0) }), "agrees": .bool(agrees),
            "lines": .integer(Int64(lines)), "verdicts": .object(sums),
            "tokens": .integer(Int64(tokens)), "tolerance": .number(tolerance),
            "max_logprob_difference": .number(worstScore),
            "mean_logprob_difference": .number(meanScore),
            "findings": .array(findings.map(Self.json)),
        ])
    }

    private static func json(_ finding: Finding) -> JSONValue {
        .object([
            "custom_id": .string(finding.customID), "verdict": .string(finding.verdict.rawValue),
            "tokens": .integer(Int64(finding.tokens)),
            "max_logprob_difference": .number(finding.scoreDifference),
            "sides": .array(finding.sides.map { .string($0) }),
            "margins": .array(finding.margins.map { .number($0) }),
        ])
    }

    func text(_ style: TextStyle) -> String {
        var text = ""
        if !findings.isEmpty {
            var table = TextTable([
                ("LINE", .left), ("VERDICT", .left), ("TOKENS", .right), ("MAX |Δ|", .right),
                (names[0].uppercased(), .left), (names[1].uppercased(), .left),
            ])
            for finding in findings.prefix(Self.shownFindings) {
                let sides = finding.sides.enumerated().map { index, side in
                    index < finding.margins.count
                        ? "\(Self.quoted(side)) by \(Self.short(finding.margins[index]))"
                        : Self.quoted(side)
                }
                table.add(
                    [
                        finding.customID, finding.verdict.rawValue, String(finding.tokens),
                        Self.short(finding.scoreDifference),
                    ] + sides)
            }
            text += table.rendered(style: style)
            let more = lines - (counts["equal"] ?? 0) - (counts["refused"] ?? 0)
            if more > Self.shownFindings {
                text += "… and \(more - Self.shownFindings) more; --json has \(findings.count)\n"
            }
            text += "\n"
        }
        let words = ["equal", "tie", "scores", "parts", "errors", "refused"].compactMap { word in
            counts[word].map { "\(HumanText.count($0)) \(word)" }
        }
        text += "\(HumanText.plural(lines, "line")): \(words.joined(separator: ", "))"
        text +=
            "; \(HumanText.plural(tokens, "token")) compared, log probabilities apart by at most "
        text += "\(Self.short(worstScore)), \(Self.short(meanScore)) on average\n"
        return text
    }

    private static func quoted(_ side: String) -> String { JSONValue.string(side).text() }

    private static func short(_ value: Double) -> String { HumanText.significant(value) }
}
