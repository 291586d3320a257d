import BrokerCore
import Testing

@testable import Broker
@testable import JobStore

/// A batch of four lines and its answers, whole or spoilt in one way.
@Suite struct VerifyingTests {
    private let folder: TemporaryFolder
    private let blob: String
    private var ledger: LineLedger
    private static let line = #"{"custom_id":"c0"}"#.utf8.count + 1

    init() throws {
        folder = try TemporaryFolder()
        let input = (0..<4).map { #"{"custom_id":"c\#($0)"}"# + "\n" }.joined()
        blob = try folder.write("blob", input)
        // Answered in another order than asked, one after the other.
        let order = [2, 0, 3, 1]
        _ = try folder.write(
            "results-000.jsonl", order.map { #"{"custom_id":"c\#($0)"}"# + "\n" }.joined())
        let id = JobID(high: 1_700_000_000_000 << 16 | 0x7000, low: 0x8000_0000_0000_0000)
        let digest = try #require(Digest(hex: String(repeating: "0", count: 64)))
        var status = JobStatus(
            state: .succeeded, counts: JobCounts(total: 4), allowsAnyNumerics: false)
        status.counts.done = 4
        ledger = LineLedger(
            job: JobRecord(
                submission: Submission(
                    id: id, kind: "plain", spec: [], digest: digest, shape: .lines(blob: digest)),
                sequence: 1, createdAt: 0, status: status))
        ledger.blocks = [
            LineBlock(firstIndex: 0, offset: 0, firstNumber: 1, count: 2),
            LineBlock(firstIndex: 2, offset: Int64(2 * Self.line), firstNumber: 3, count: 2),
        ]
        ledger.results = (0..<4).map { index in
            var row = ResultRecord(
                task: TaskID(job: id, index: index), jobSequence: 1, generation: 1,
                order: Int64(index + 1), state: .done, attempt: 1, finishedAt: 0)
            let place = order.firstIndex(of: index) ?? 0
            row.location = ResultLocation(
                segment: 0, offset: Int64(place * Self.line), length: Int32(Self.line - 1))
            return row
        }
    }

    private func check(
        from: Int = 0, limit: Int = 10, _ change: (inout LineLedger) -> Void = { _ in }
    ) -> LedgerCheck.Page {
        var ledger = ledger
        change(&ledger)
        return LedgerCheck(
            ledger: ledger, from: from, limit: limit, blobPath: blob, directory: folder.path,
            rules: LineRules(isInference: false, defaultModel: nil, refusal: { _ in nil })
        ).run()
    }

    @Test func aWholeBatchIsProvenAtOnceAndByPages() {
        let page = check()
        #expect(page.problemCount == 0 && page.answers.done == 4 && page.isComplete)
        let first = check(from: 0, limit: 3)
        #expect(first.lines == 3 && first.next == 3 && !first.isComplete)
        #expect(first.problemCount == 0, "\(first.problems)")
        // What the store gives for the second page.
        let second = check(from: 3, limit: 3) { ledger in
            ledger.blocks.removeFirst()
            ledger.results.removeFirst(3)
        }
        #expect(second.lines == 1 && second.isComplete && second.answers.done == 1)
        #expect(second.problemCount == 0, "\(second.problems)")
    }

    @Test func eachThingThatMustNotBeIsNamed() {
        func codes(_ change: (inout LineLedger) -> Void) -> [String] {
            check(change).problems.map(\.code)
        }
        #expect(codes { $0.results.remove(at: 2) } == ["MISSING"])
        #expect(
            codes { ledger in
                var again = ledger.results[1]
                again.generation = 2
                ledger.results.insert(again, at: 2)
            } == ["REPEATED"])
        #expect(codes { $0.results[0].location = $0.results[1].location } == ["WRONG_LINE"])
        #expect(codes { $0.results[3].location?.offset = 10_000 } == ["UNREADABLE"])
        #expect(codes { $0.results[3].location?.segment = 7 } == ["UNREADABLE"])
        #expect(codes { $0.results[3].location = nil } == ["UNREADABLE"])
        #expect(codes { $0.blocks[1].offset += 1 } == ["INDEX"])
        #expect(codes { $0.blocks[1].firstNumber += 1 } == ["INDEX"])
        #expect(codes { $0.job.status.counts.total = 3 }.contains("INPUT"))
        #expect(codes { $0.job.status.counts.total = 5 } == ["INPUT", "MISSING"])
    }

    @Test func aJobThatEndedBeforeItsFileWasReadIsNotProvenAndSaysWhy() {
        let page = check { ledger in
            ledger.job.status.state = .cancelled
            ledger.job.status.counts.total = nil
        }
        #expect(page.problems.map(\.code) == ["NOT_SPLIT"] && page.isComplete)
        #expect(page.problems.first?.message.contains("before its file was read") == true)
    }

    @Test func whatARetryOfEverythingRanAgainDoesNotCount() {
        let page = check { ledger in
            ledger.job.status.generation = 2
            ledger.job.status.wholeGeneration = 2
            ledger.job.status.state = .running
        }
        #expect(page.answers.open == 4 && page.answers.done == 0 && page.problemCount == 0)
    }
}
