import BrokerCore
import JSONModel
import JobStore
import LinuxSystem
import WireProtocol

extension EventLoop {
    /// Lines looked at in one page: a bounded piece of work and of memory.
    static let verifyPage = 20_000

    /// Proves a page of a job's lines from the stored files, off the loop.
    func verify(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(VerifyRequest.self)
        let from = Int(clamping: try Self.number(header.after, "after") ?? 0)
        let limit = min(max(1, header.limit ?? Self.verifyPage), Self.verifyPage)
        guard verifier.backlog < 100 else {
            throw ErrorObject(
                .limit, .retryable, "too many readers wait for the disk", retryAfterMs: 200)
        }
        resolveOne(header.job, request) { loop, id in
            loop.query(request) { store, completion in
                store.lineLedger(of: id, from: from, limit: limit, completion: completion)
            } then: { loop, ledger in
                guard let ledger else {
                    return loop.fail(
                        request, ErrorObject(.unknownJob, .user, "there is no job \(id)"))
                }
                loop.verify(ledger, from: from, limit: limit, request)
            }
        }
    }

    private func verify(_ ledger: LineLedger, from: Int, limit: Int, _ request: PendingRequest) {
        let job = ledger.job
        var blobPath: String?
        if case .lines(let blob) = job.submission.shape, let content = blob.content {
            blobPath = blobs.path(of: content)
        }
        let check = LedgerCheck(
            ledger: ledger, from: from, limit: limit, blobPath: blobPath,
            directory: home.run(of: job.id.text),
            rules: rules(of: job.id, kind: job.submission.kind))
        offload(verifier) {
            check.run()
        } then: { loop, page in
            do {
                loop.replyNow(
                    request,
                    VerifyReply(
                        job: try job.id.wire(), state: try job.status.state.wire(),
                        lines: page.lines, answers: page.answers, problemCount: page.problemCount,
                        problems: page.problems, next: String(page.next), complete: page.isComplete)
                )
            } catch {
                loop.fail(request, EventLoop.errorObject(of: error))
            }
        }
    }
}

/// Compares a stretch of a batch file with what was answered: each line exactly once, under its own `custom_id`, readable
/// where the store says it lies.
struct LedgerCheck: Sendable {
    struct Page: Sendable {
        var lines = 0
        var answers = VerifyReply.Answers()
        var problemCount = 0
        var problems: [VerifyReply.Problem] = []
        var next = 0
        var isComplete = false

        mutating func add(_ code: String, _ message: String, line: Int? = nil) {
            problemCount += 1
            if problems.count < 20 {
                problems.append(.init(code: code, message: message, line: line))
            }
        }
    }

    let ledger: LineLedger
    let from: Int
    let limit: Int
    /// Nil for a job of one task.
    let blobPath: String?
    let directory: String
    let rules: LineRules

    func run() -> Page {
        var page = Page(next: from)
        let status = ledger.job.status
        guard let total = status.counts.total else {
            page.isComplete = true
            if status.state.isFinal {
                page.add(
                    "NOT_SPLIT",
                    "the job ended before its file was read to the end: what was not read was not run"
                )
            }
            return page
        }
        let end = min(total, from + limit)
        do {
            var identities: [InputLine] = []
            if let blobPath {
                identities = try inputLines(blobPath, end: end, total: total, &page)
            }
            try compare(identities, end: end, &page)
        } catch {
            page.add("UNREADABLE", "\(error)")
        }
        page.lines = max(0, end - from)
        page.next = max(from, end)
        page.isComplete = end >= total
        return page
    }

    // MARK: The input file

    private struct InputLine {
        let number: Int
        /// Nil where the line has none that can be read.
        let customID: String?
    }

    /// Reads the stretch's lines from the blob by the index of blocks, and checks that index on the way.
    private func inputLines(
        _ path: String, end: Int, total: Int, _ page: inout Page
    ) throws -> [InputLine] {
        var lines: [InputLine] = []
        guard from < end else { return lines }
        guard let first = ledger.blocks.first, first.firstIndex <= from else {
            page.add("INDEX", "no block of the index reaches line index \(from)")
            return lines
        }
        var blocks = ledger.blocks.dropFirst()
        var scanner = try LineScanner(path: path, from: Int(first.offset))
        var index = first.firstIndex
        var number = Int(first.firstNumber)
        while index < end || end == total, let line = try scanner.next() {
            defer { number += 1 }
            if line.isBlank { continue }
            if let block = blocks.first, block.firstIndex == index {
                if Int(block.offset) != line.offset || Int(block.firstNumber) != number {
                    page.add(
                        "INDEX", "the block of line index \(index) is not where it is", line: number
                    )
                }
                blocks = blocks.dropFirst()
            }
            if index >= total {
                page.add("INPUT", "the file has more lines than were split", line: number)
                break
            }
            if index >= from, index < end {
                lines.append(InputLine(number: number, customID: customID(line, number)))
            }
            index += 1
        }
        if index < end { page.add("INPUT", "the file ends before line index \(index)") }
        return lines
    }

    private func customID(_ line: LineScanner.Line, _ number: Int) -> String? {
        guard let bytes = line.json(number: number) else { return nil }
        do throws(LineFault) {
            return try rules.parse(bytes).customID
        } catch {
            return error.customID
        }
    }

    // MARK: The answers

    private func compare(_ input: [InputLine], end: Int, _ page: inout Page) throws {
        let status = ledger.job.status
        var rows = ledger.results[...]
        var segments = SegmentCursor(directory: directory)
        for index in from..<max(from, end) {
            var newest: ResultRecord?
            var doneCount = 0
            while let row = rows.first, row.task.index == index {
                rows = rows.dropFirst()
                // What a retry of everything ran again does not count.
                guard row.generation == 0 || row.generation >= status.wholeGeneration else {
                    continue
                }
                if row.state == .done { doneCount += 1 }
                newest = row
            }
            let line =
                blobPath == nil
                ? nil : input.indices.contains(index - from) ? input[index - from] : nil
            if doneCount > 1 {
                page.add("REPEATED", "the line was answered \(doneCount) times", line: line?.number)
            }
            count(newest, status, line, &page)
            if let newest { try check(newest, line, &segments, &page) }
        }
    }

    private func count(
        _ row: ResultRecord?, _ status: JobStatus, _ line: InputLine?, _ page: inout Page
    ) {
        switch row?.state {
        case .done?: page.answers.done += 1
        case .dead?: page.answers.dead += 1
        case .cancelled?: page.answers.cancelled += 1
        case .some: page.answers.failed += 1
        case nil where !status.state.isFinal: page.answers.open += 1
        // What was cancelled, or given up with its job, before it ended has no line of its own.
        case nil where status.counts.cancelled > 0: page.answers.cancelled += 1
        case nil: page.add("MISSING", "the line has no answer", line: line?.number)
        }
    }

    /// The answer lies where the store says, whole, and is that of this line.
    private func check(
        _ row: ResultRecord, _ line: InputLine?, _ segments: inout SegmentCursor, _ page: inout Page
    ) throws {
        guard let location = row.location else {
            if row.state == .done {
                page.add("UNREADABLE", "a result has no line", line: line?.number)
            }
            return
        }
        guard let bytes = try segments.line(at: location) else {
            return page.add(
                "UNREADABLE",
                "segment \(location.segment) is shorter than what was committed", line: line?.number
            )
        }
        guard bytes.last == 0x0A, let value = try? JSONValue.parse(Array(bytes.dropLast())) else {
            return page.add(
                "UNREADABLE", "segment \(location.segment) holds no line at \(location.offset)",
                line: line?.number)
        }
        guard blobPath != nil else { return }
        let found = value["custom_id"]?.string
        if !Self.isSame(found, line?.customID) {
            page.add(
                "WRONG_LINE",
                "the answer is of \(found.map { "`\($0.prefix(80))`" } ?? "no custom_id"), not of `\((line?.customID ?? "").prefix(80))`",
                line: line?.number)
        }
    }

    /// By bytes: Swift's `==` takes canonically equal texts for the same.
    private static func isSame(_ left: String?, _ right: String?) -> Bool {
        guard let left, let right else { return false }
        return left.utf8.elementsEqual(right.utf8)
    }
}

/// Reads single lines of a job's segments, with a window of 1 MiB of the segment that it is at.
struct SegmentCursor {
    private let directory: String
    private var segment: Int32?
    private var start = 0
    private var window: [UInt8] = []
    private static let windowBytes = 1 << 20

    init(directory: String) { self.directory = directory }

    /// The line with its line feed; nil where the segment is shorter.
    mutating func line(at location: ResultLocation) throws(SystemError) -> [UInt8]? {
        let offset = Int(location.offset)
        let length = Int(location.length) + 1
        let isInside =
            segment == location.segment && offset >= start
            && offset + length <= start + window.count
        if !isInside {
            let path = ResultSegment.path(directory, Int(location.segment))
            guard FilePath.exists(path) else { return nil }
            let file = try DataFile(path: path, .reading)
            window = try file.read(at: offset, count: max(length, Self.windowBytes))
            start = offset
            segment = location.segment
        }
        let first = offset - start
        guard first + length <= window.count else { return nil }
        return Array(window[first..<first + length])
    }
}
