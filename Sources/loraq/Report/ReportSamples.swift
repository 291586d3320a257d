import JSONModel
import LinuxSystem
import LoraqClient
import WireProtocol

/// Answers of the base and of the adapter to some rows.
enum ReportSamples {
    struct Row: Equatable {
        var line: Int
        var prompt: String
        var expected: String
        var before: Answer
        var after: Answer
    }

    struct Answer: Equatable {
        var text: String
        var isExact: Bool
    }

    /// There are none, and why.
    case none(String)
    /// Made by this `evaluate` job; `areHeldOut` if the rows were not trained.
    case made(job: String, rows: [Row], areHeldOut: Bool)

    var json: JSONValue {
        guard case .made(let job, let rows, let areHeldOut) = self else { return .null }
        func answer(_ answer: Answer) -> JSONValue {
            ["text": .string(answer.text), "exact": .bool(answer.isExact)]
        }
        return [
            "job": .string(job), "held_out": .bool(areHeldOut),
            "rows": .array(
                rows.map {
                    [
                        "line": .integer(Int64($0.line)), "prompt": .string($0.prompt),
                        "expected": .string($0.expected), "before": answer($0.before),
                        "after": answer($0.after),
                    ]
                }),
        ]
    }

    /// `count` of the values, from all over.
    static func spread(_ values: [Int], _ count: Int) -> [Int] {
        guard count < values.count else { return values }
        return (0..<count).map { values[$0 * values.count / count] }
    }

    /// Which rows of which input are answered: the evaluation's; without one, rows that were trained.
    struct Choice: Equatable {
        var lines: [Int]
        var digest: String
        var areHeldOut: Bool

        init?(_ result: JSONValue?, count: Int) {
            guard let result, let inputs = result["inputs"] else { return nil }
            let evaluation = result["evaluation"]
            if let evaluation, let lines = evaluation["lines"]?.array {
                areHeldOut = true
                self.lines = spread(lines.compactMap(\.integer), count)
                let name = evaluation["held_out"]?.bool == true ? "train" : "eval"
                guard let digest = inputs[name]?.string else { return nil }
                self.digest = digest
            } else {
                areHeldOut = false
                guard let rows = result["rows"]?.integer, rows > 0, rows < 1 << 40,
                    let digest = inputs["train"]?.string
                else { return nil }
                let count = min(count, rows)
                lines = (0..<count).map { 1 + $0 * rows / count }
                self.digest = digest
            }
            if lines.isEmpty { return nil }
        }
    }

    /// Submits an `evaluate` job of adapter and base on some rows and waits for it.
    ///
    /// - Throws: `.interrupted` (the job is cancelled then), `.timeout`; what the job itself fails with is a reason for there
    ///   being no samples.
    static func make(
        _ data: ReportData, count: Int, waiting: WaitOptions, _ session: Session
    ) throws -> ReportSamples {
        if count == 0 { return .none("None were asked for.") }
        guard let adapter = data.adapter.flatMap(ReportData.pinned),
            let model = data.model.flatMap(ReportData.pinned)
        else {
            return .none(
                data.job.state == "succeeded"
                    ? "The adapter or its base is not registered any more."
                    : "The fine-tune has made no adapter.")
        }
        guard let choice = Choice(data.job.result, count: count),
            let digest = ContentDigest(text: choice.digest)
        else { return .none("The result does not say which file was trained.") }
        var request = JobRequest(
            kind: "evaluate",
            spec: [
                "models": [.string(adapter), .string(model)], "metrics": ["exact_match"],
                "lines": .array(choice.lines.map { .integer(Int64($0)) }),
            ])
        request.label = "report"
        request.inputs = [.blob(name: "eval", digest: digest)]
        var waiter = JobWaiter(session: session, options: waiting)
        waiter.title = "answers for the report"
        waiter.events = try session.client.subscribe(to: ["job/\(request.id)"])
        let ended: JobSnapshot
        do {
            let accepted = try session.client.submit(request)
            ended = try waiter.wait(for: [accepted.job])[0]
        } catch let error as ToolError where error.status == .interrupted {
            _ = try? session.call(.cancel, ["jobs": [.string(request.id)]])
            throw ToolError(.interrupted, "interrupted; nothing was written")
        } catch let error as ClientError {
            if error.kind == .timeout {
                // Nobody waits for the answers any more.
                _ = try? session.call(.cancel, ["jobs": [.string(request.id)]])
            }
            guard case .refused = error.kind else { throw error }
            return .none("The broker refused the job that makes them: \(error.message)")
        }
        guard ended.state == "succeeded" else {
            let reason = ended.error?.message ?? ended.reason?.message ?? "it is \(ended.state)"
            return .none("The job that makes them did not succeed: \(reason)")
        }
        let result = try ended.result ?? Evaluate.fetched(ended, session)
        return .made(
            job: ended.id, rows: (result["lines"]?.array ?? []).compactMap(row),
            areHeldOut: choice.areHeldOut)
    }

    /// A line of the result of `evaluate`: the adapter's answer stands before the base's.
    static func row(_ line: JSONValue) -> Row? {
        guard let number = line["line"]?.integer, let answers = line["answers"]?.array,
            answers.count == 2
        else { return nil }
        func answer(_ json: JSONValue) -> Answer {
            Answer(text: json["text"]?.string ?? "", isExact: json["exact"]?.bool ?? false)
        }
        return Row(
            line: number, prompt: line["prompt"]?.string ?? "",
            expected: line["expected"]?.string ?? "", before: answer(answers[1]),
            after: answer(answers[0]))
    }
}
