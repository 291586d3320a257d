import ArgumentParser
import JSONModel
import LoraqClient
import WireProtocol

struct Verify: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Have the broker prove that every line was answered exactly once.",
        discussion: """
            Reads the stored input file, the index of its lines and the result files again, page by page, and compares \
            them: each line has one answer, under its own custom_id, whole where the store says it lies. Exit code 0 \
            only for a job that has ended and has no problem.
            """)

    @Argument(help: ArgumentHelp("A job.", valueName: "job")) var job = "last"
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        let id = try session.client.job(job).id
        var sums = VerifySums()
        var header: JSONObject = ["job": .string(id)]
        while true {
            let reply = try session.call(.verify, header)
            sums.add(reply.header)
            guard reply.header["complete"]?.bool != true, let next = reply.header["next"],
                next != header["after"]
            else { break }
            header["after"] = next
        }
        if session.json {
            try session.print(json: sums.json(job: id))
        } else {
            for problem in sums.problems { session.note(VerifySums.text(problem)) }
            try session.print("\(id)  \(session.style.state(sums.state))  \(sums.verdict)")
        }
        if !sums.isProven { throw ExitCode(ExitStatus.failure.rawValue) }
    }
}

/// The sums of the pages of `VERIFY`.
struct VerifySums {
    private(set) var state = ""
    private(set) var lines = 0
    private(set) var answers: [String: Int] = [:]
    private(set) var problemCount = 0
    /// The first ones.
    private(set) var problems: [JSONValue] = []

    static let words = ["done", "failed", "dead", "cancelled", "open"]

    mutating func add(_ page: JSONValue) {
        state = page["state"]?.string ?? state
        lines += page["lines"]?.integer ?? 0
        for word in Self.words { answers[word, default: 0] += page["answers"]?[word]?.integer ?? 0 }
        problemCount += page["problem_count"]?.integer ?? 0
        problems += (page["problems"]?.array ?? []).prefix(max(0, 20 - problems.count))
    }

    /// The job has ended, and every line has its one answer.
    var isProven: Bool {
        problemCount == 0 && answers["open"] == 0
            && (JobState(rawValue: state)?.isFinal ?? false)
    }

    var verdict: String {
        let parts = Self.words.compactMap { word in
            answers[word].flatMap { $0 > 0 ? "\(HumanText.count($0)) \(word)" : nil }
        }
        let counts =
            HumanText.plural(lines, "line")
            + (parts.isEmpty ? "" : ": " + parts.joined(separator: ", "))
        if problemCount > 0 { return "\(counts); \(HumanText.plural(problemCount, "problem"))" }
        return isProven ? "\(counts); each answered exactly once" : "\(counts); not at its end"
    }

    func json(job: String) -> JSONValue {
        var counts = JSONObject()
        for word in Self.words { counts[word] = .integer(Int64(answers[word] ?? 0)) }
        return .object([
            "job": .string(job), "state": .string(state), "verified": .bool(isProven),
            "lines": .integer(Int64(lines)), "answers": .object(counts),
            "problem_count": .integer(Int64(problemCount)), "problems": .array(problems),
        ])
    }

    static func text(_ problem: JSONValue) -> String {
        let place = problem["line"]?.integer.map { "line \($0): " } ?? ""
        return "\(problem["code"]?.string ?? "?")  \(place)"
            + TextTable.oneLine(problem["message"]?.string ?? "")
    }
}
