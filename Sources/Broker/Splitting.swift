import BrokerCore
import Dispatch
import JSONModel
import JobStore
import LinuxSystem
import Synchronization
import WireProtocol

/// A batch file that is being split: how far it is, and the means to stop it.
final class SplitControl: Sendable {
    private struct State {
        var isCancelled = false
        var linesRead = 0
        var badLines = 0
    }

    private let state = Mutex(State())
    /// Parts that may be on their way to the disk at once: it holds the splitter back.
    private let room = DispatchSemaphore(value: 4)

    var isCancelled: Bool { state.withLock { $0.isCancelled } }
    var linesRead: Int { state.withLock { $0.linesRead } }
    var badLines: Int { state.withLock { $0.badLines } }

    /// Waits for room for a part; false when nobody wants more.
    func waitForRoom(_ part: BatchSplitter.Part) -> Bool {
        room.wait()
        return state.withLock { state in
            state.linesRead += part.blocks.reduce(0) { $0 + $1.count }
            state.badLines += part.badLines.count
            return !state.isCancelled
        }
    }

    func giveRoom() { room.signal() }

    func cancel() {
        state.withLock { $0.isCancelled = true }
        room.signal()
    }
}

/// Asks the loop, from the splitter's thread, whether references are known; each one once.
private final class ReferenceAsker: Sendable {
    private let known = Mutex<[String: BrokerError?]>([:])
    private let control: SplitControl
    private let ask: @Sendable (String, @escaping @Sendable (BrokerError?) -> Void) -> Void

    init(
        for control: SplitControl,
        ask: @escaping @Sendable (String, @escaping @Sendable (BrokerError?) -> Void) -> Void
    ) {
        self.control = control
        self.ask = ask
    }

    func refusal(_ reference: String) -> BrokerError? {
        if let answer = known.withLock({ $0[reference] }) { return answer }
        let done = DispatchSemaphore(value: 0)
        let answer = Mutex<BrokerError?>(nil)
        ask(reference) { error in
            answer.withLock { $0 = error }
            done.signal()
        }
        // The loop answers soon, unless it has ended meanwhile.
        while done.wait(timeout: .now() + .milliseconds(200)) == .timedOut {
            if control.isCancelled { return nil }
        }
        let error = answer.withLock { $0 }
        known.withLock { known in
            // References that are wrong can be as many as the lines.
            if known.count < 20_000 { known[reference] = .some(error) }
        }
        return error
    }
}

extension EventLoop {
    func split(_ request: SplitRequest) {
        let control = SplitControl()
        splits[request.job]?.cancel()
        splits[request.job] = control
        guard let content = request.blob.content else { return }
        let job = request.job
        let inbox = self.inbox
        let directory = home.run(of: job.text)
        let asker = ReferenceAsker(for: control) { reference, answer in
            inbox.post { loop in answer(loop.refusal(of: reference, for: job)) }
        }
        let work = BatchSplitter(
            blobPath: blobs.path(of: content),
            rules: rules(of: job, kind: request.kind) { asker.refusal($0) })
        let isSmall = blobs.size(of: content).map { $0 <= Self.smallFileBytes } ?? true
        offload(isSmall ? smallSplitter : splitter) { () -> BatchSplitter.Outcome in
            if control.isCancelled { return .stopped }
            let outcome = work.run { part in
                guard control.waitForRoom(part) else { return false }
                inbox.post { $0.takeSplitPart(job, part, control) }
                return true
            }
            if case .finished(let lines) = outcome {
                // Only for people to look at: without it STATUS leaves the counts out.
                try? SplitSummary(lines: lines, bad: control.badLines).write(to: directory)
            }
            return outcome
        } then: { loop, outcome in
            guard loop.splits[job] === control else { return }
            loop.splits[job] = nil
            switch outcome {
            case .finished(let lines): loop.step(.splitFinished(job, lines: lines))
            case .failed(let error): loop.step(.splitFailed(job, error))
            case .stopped: break
            }
        }
    }

    private func takeSplitPart(
        _ job: JobID, _ part: BatchSplitter.Part, _ control: SplitControl
    ) {
        guard splits[job] === control, core != nil else { return control.giveRoom() }
        Failpoint.batchPartSplit.reach()
        step(
            .splitPart(
                job, blocks: part.blocks, badLines: part.badLines, references: part.references))
        batch.deferred.append(.run { _, _ in control.giveRoom() })
    }

    private func refusal(of reference: String, for job: JobID) -> BrokerError? {
        guard let core, core.canResolve(reference, for: job) else {
            return BrokerError(
                .unknownArtifact, .user,
                "`\(reference)` is neither registered nor made by a job that this one comes after")
        }
        return nil
    }

    func rules(
        of job: JobID, kind: String,
        refusal: @escaping @Sendable (String) -> BrokerError? = { _ in nil }
    ) -> LineRules {
        var rules = LineRules(
            isInference: kind == BuiltInKind.infer.rawValue, defaultModel: nil, refusal: refusal)
        if rules.isInference, let spec = spec(of: job) {
            rules.defaultModel = spec["model"]?.string.flatMap { Wire.ArtifactReference(text: $0) }
        }
        return rules
    }

    // MARK: Loading lines

    /// Reads the next lines of a batch that are to become tasks.
    func loadLines(_ request: LineRequest) {
        store.pendingLines(request) { [inbox] result in
            inbox.post { loop in
                switch result {
                case .success(let pending): loop.readLines(request, pending)
                case .failure(let error):
                    loop.log.error("lines of \(request.job): \(error)")
                    loop.step(
                        .loadFailed(
                            request, BrokerError(.internal, .internal, error.description)))
                }
            }
        }
    }

    private func readLines(_ request: LineRequest, _ pending: PendingLines) {
        guard let content = request.blob.content, let kind = core?.job(request.job)?.submission.kind
        else { return }
        let loader = LineLoader(
            blobPath: blobs.path(of: content), rules: rules(of: request.job, kind: kind))
        offload(reader) {
            Result { () throws(BrokerError) in try loader.load(pending) }
        } then: { loop, result in
            switch result {
            case .success(let lines):
                loop.step(.linesLoaded(request, lines, next: pending.next))
            case .failure(let error): loop.step(.loadFailed(request, error))
            }
        }
    }
}

/// Reads lines back from a batch file, from the blocks that they lie in.
struct LineLoader: Sendable {
    let blobPath: String
    let rules: LineRules

    func load(_ pending: PendingLines) throws(BrokerError) -> [LoadedLine] {
        var loaded: [LoadedLine] = []
        var wanted = pending.lines[...]
        do {
            for block in pending.blocks.sorted(by: { $0.firstIndex < $1.firstIndex }) {
                let end = block.firstIndex + block.count
                guard let first = wanted.first, first.index < end else { continue }
                var scanner = try LineScanner(path: blobPath, from: Int(block.offset))
                var index = block.firstIndex
                var number = block.firstNumber
                while index < end, let next = wanted.first, let line = try scanner.next() {
                    defer { number += 1 }
                    if line.isBlank { continue }
                    if index == next.index {
                        loaded.append(try self.line(line, next, number))
                        wanted = wanted.dropFirst()
                    }
                    index += 1
                }
            }
        } catch let error as SystemError {
            throw BrokerError(.internal, .internal, error.description)
        } catch let error as BrokerError {
            throw error
        } catch {
            throw BrokerError(.internal, .internal, "\(error)")
        }
        guard wanted.isEmpty else {
            throw BrokerError(.internal, .internal, "\(blobPath) is shorter than when it was split")
        }
        return loaded
    }

    private func line(
        _ line: LineScanner.Line, _ pending: PendingLine, _ number: Int64
    ) throws(BrokerError) -> LoadedLine {
        guard let bytes = line.json(number: Int(number)) else {
            throw BrokerError(.internal, .internal, "line \(number) of \(blobPath) has changed")
        }
        do {
            let checked = try rules.parse(bytes)
            return LoadedLine(
                index: pending.index, customID: checked.customID,
                location: LineLocation(
                    offset: Int64(line.offset), length: Int32(line.length), number: number),
                references: checked.model.map { [$0] } ?? [],
                previousAttempts: pending.previousAttempts)
        } catch {
            throw BrokerError(
                .internal, .internal,
                "line \(number) of \(blobPath) has changed since it was split: \(error.message)")
        }
    }
}
