import Collections
import Kernels
import Tokenization
import Transformer

/// What the scheduler may use.
public struct GenerationLimits: Sendable, Equatable {
    /// Sequences that are computed together.
    public var sequences = 64
    /// Rows of one pass: one for each sequence that decodes, the rest pieces of prompts.
    public var rows = 512
    /// Bytes of KV memory.
    public var cacheBytes = 1 << 30
    /// The longest sequence, prompt and answer; nil: the model's own.
    public var positions: Int?
    /// Requests that wait or run.
    public var requests = 4096

    public init() {}
}

/// Continuous batching: sequences join and leave the running batch between passes.
///
/// Single-threaded; `step` computes one pass. What a sequence answers never depends on what else is in the batch,
/// since every row of a pass has the same bits alone and the random numbers are named by seed, choice and step.
///
/// Prompts are computed in chunks beside the decoding rows. KV pages are taken as sequences grow; whole pages stay in the
/// prefix cache until their memory is asked for. When none is left, the sequence that came last gives its pages back and
/// is computed again later, from its tokens.
final class ContinuousBatch {
    typealias RequestID = Int

    private final class Running {
        let id: RequestID
        let emit: @Sendable (GenerationEvent) -> Void
        var open: Int
        var sequences: [GenerationSequence]
        init(
            id: RequestID, sequences: [GenerationSequence],
            emit: @escaping @Sendable (GenerationEvent) -> Void
        ) {
            self.id = id
            self.sequences = sequences
            self.emit = emit
            open = sequences.count
        }
    }

    private struct Member {
        let request: Running
        let sequence: GenerationSequence
    }

    private struct Place {
        let member: Member
        let span: Int
        /// Positions of the tokens in the span.
        let positions: Range<Int>
        let logits: RaggedBatch.Logits
    }

    private let pass: InferencePass
    private let tokenizer: Tokenizer
    private let limits: GenerationLimits
    private let rowsForLogits: Int
    /// The longest sequence: what the model can and what the KV memory holds.
    private let positions: Int
    private var requests: [RequestID: Running] = [:]
    private var waiting: Deque<Member> = []
    private var active: [Member] = []
    private var batch = RaggedBatch()
    private var places: [Place] = []
    private var sampler: BatchSampler
    private var prefixes = PrefixCache()
    private var generated = 0
    /// Waiting sequences that are looked at for each pass: one that waits for a common beginning holds up no other.
    private static let lookahead = 256

    init(pass: InferencePass, tokenizer: Tokenizer, limits: GenerationLimits) throws {
        self.pass = pass
        self.tokenizer = tokenizer
        self.limits = limits
        rowsForLogits = pass.maximumLogitRows
        positions = min(
            pass.maximumPositions, pass.pages.pageCount * PageAllocator.positionsPerPage)
        sampler = try BatchSampler(pass: pass)
    }

    var isIdle: Bool { requests.isEmpty }
    var activeCount: Int { active.count }
    var waitingCount: Int { waiting.count }
    /// Tokens chosen so far, over all requests.
    var generatedTokens: Int { generated }
    /// Pages that no sequence holds.
    var freePages: Int { pass.pages.freeCount + prefixes.evictableCount(pass.pages) }

    /// Takes a request in; refuses what can never fit.
    func add(
        _ id: RequestID, _ request: GenerationRequest,
        emit: @escaping @Sendable (GenerationEvent) -> Void
    ) {
        if let fault = fault(of: request) {
            emit(.failed(fault))
            return
        }
        let sequences = (0..<request.choiceCount).map {
            GenerationSequence(request: request, index: $0, tokenizer: tokenizer)
        }
        let running = Running(id: id, sequences: sequences, emit: emit)
        requests[id] = running
        for sequence in sequences { waiting.append(Member(request: running, sequence: sequence)) }
    }

    private func fault(of request: GenerationRequest) -> GenerationError? {
        if request.prompt.isEmpty {
            return GenerationError(.emptyPrompt, "the prompt has no token")
        }
        // The last chosen token needs no position of its own, but the first one needs the whole prompt.
        let room = request.maximumTokens == 0 ? positions : positions - 1
        if request.prompt.count > room {
            return GenerationError(
                .contextLength,
                "the prompt has \(request.prompt.count) tokens; prompt and answer have \(positions) positions"
            )
        }
        return nil
    }

    /// Ends a request at this token boundary; what was produced comes as its result.
    func cancel(_ id: RequestID) {
        guard let running = requests[id] else { return }
        for sequence in running.sequences where sequence.finish == nil {
            release(sequence)
            _ = sequence.end(.cancelled)
        }
        waiting.removeAll { $0.request === running }
        active.removeAll { $0.request === running }
        finish(running)
    }

    /// Ends all requests with an error; the engine cannot go on.
    func fail(_ error: GenerationError) {
        for running in requests.values {
            for sequence in running.sequences { release(sequence) }
            running.emit(.failed(error))
        }
        requests = [:]
        waiting = []
        active = []
    }

    /// Computes one pass, if there is work.
    func step() throws {
        admit()
        guard !active.isEmpty else { return }
        try plan()
        guard !places.isEmpty else { return }
        try pass.run(batch)
        try choose()
    }

    // MARK: Which rows

    /// Lets waiting sequences in while there is room for their prompts.
    private func admit() {
        var index = 0
        while active.count < min(limits.sequences, rowsForLogits),
            index < min(waiting.count, Self.lookahead)
        {
            let member = waiting[index]
            let known = takePrefix(member.sequence)
            if isBeingComputed(member.sequence, from: known) {
                release(member.sequence)
                index += 1
                continue
            }
            let needed =
                PageAllocator.pages(forPositions: member.sequence.tokens.count + 1) - known
            // The first one is always let in: alone it must fit.
            guard active.isEmpty || needed <= pass.pages.freeCount || needed <= freePages else {
                release(member.sequence)
                return
            }
            let size = PageAllocator.positionsPerPage
            member.sequence.cachedTokens = member.sequence.cachedTokens ?? known * size
            waiting.remove(at: index)
            active.append(member)
        }
    }

    /// Takes over the whole pages of a sequence's beginning that are in memory.
    ///
    /// - Returns: Their number.
    private func takePrefix(_ sequence: GenerationSequence) -> Int {
        let limit = sharablePages(sequence)
        guard limit > 0, let origin = self.origin(sequence) else { return 0 }
        let (pages, node) = prefixes.match(
            sequence.tokens, origin: origin, limit: limit, &pass.pages)
        sequence.pages = pages
        sequence.computed = pages.count * PageAllocator.positionsPerPage
        sequence.knownPages = pages.count
        sequence.lastNode = node
        return pages.count
    }

    /// Nil where pages are not kept.
    private func origin(_ sequence: GenerationSequence) -> PrefixCache.Origin? {
        PrefixCache.Origin(
            sequence.request.adapter,
            isLong: pass.decoder.config.rotationDiffers(1, sequence.tokens.count))
    }

    /// Pages of a beginning that need not be computed: the last token always is, for its logits; where the prompt is
    /// scored all are.
    private func sharablePages(_ sequence: GenerationSequence) -> Int {
        if sequence.request.scoresPrompt, sequence.promptLogprobs.count < sequence.promptCount {
            return 0
        }
        return (sequence.tokens.count - 1) / PageAllocator.positionsPerPage
    }

    /// Whether a running sequence is about to compute the next page that this one could take over.
    private func isBeingComputed(_ sequence: GenerationSequence, from known: Int) -> Bool {
        guard known < sharablePages(sequence),
            let origin = self.origin(sequence)
        else { return false }
        let next = (known + 1) * PageAllocator.positionsPerPage
        return active.contains { member in
            let other = member.sequence
            return other.computed < next && other.tokens.count >= next
                && self.origin(other) == origin
                && other.tokens[..<next] == sequence.tokens[..<next]
        }
    }

    /// Lets the prefix cache know the pages that the last pass has filled.
    private func keepPages(of sequence: GenerationSequence) {
        guard let origin = self.origin(sequence) else { return }
        while (sequence.knownPages + 1) * PageAllocator.positionsPerPage <= sequence.computed {
            sequence.lastNode = prefixes.insert(
                sequence.tokens, page: sequence.knownPages, pages: &sequence.pages, origin: origin,
                parent: sequence.lastNode, &pass.pages)
            sequence.knownPages += 1
        }
    }

    /// Fills the batch: a row for each decoding sequence first, then pieces of prompts in order of arrival.
    private func plan() throws {
        batch.removeAll()
        places.removeAll(keepingCapacity: true)
        var rows = limits.rows
        var logitRows = rowsForLogits
        var index = 0
        while index < active.count {
            let member = active[index]
            if member.sequence.pendingCount == 1, member.sequence.computed > 0, rows > 0,
                logitRows > 0
            {
                guard reserve(member, upTo: member.sequence.tokens.count) else { continue }
                place(member, count: 1, &rows, &logitRows)
            }
            index += 1
        }
        index = 0
        while index < active.count, rows > 0, logitRows > 0 {
            let member = active[index]
            let sequence = member.sequence
            if sequence.pendingCount > 1 || sequence.computed == 0 {
                var count = min(sequence.pendingCount, rows)
                if sequence.request.scoresPrompt, sequence.computed < sequence.promptCount {
                    count = min(count, logitRows)
                }
                guard reserve(member, upTo: sequence.computed + count) else { continue }
                place(member, count: count, &rows, &logitRows)
            }
            index += 1
        }
    }

    private func place(
        _ member: Member, count: Int, _ rows: inout Int, _ logitRows: inout Int
    ) {
        let sequence = member.sequence
        let positions = sequence.computed..<(sequence.computed + count)
        let isLast = positions.upperBound == sequence.tokens.count
        let scores = sequence.request.scoresPrompt && positions.lowerBound < sequence.promptCount
        let logits: RaggedBatch.Logits = scores ? .all : isLast ? .last : .none
        let span = batch.append(
            tokens: sequence.tokens[positions], startPosition: positions.lowerBound,
            sequenceLength: sequence.tokens.count, pages: sequence.pages,
            adapter: sequence.request.adapter, logits: logits)
        places.append(Place(member: member, span: span, positions: positions, logits: logits))
        rows -= count
        logitRows -= logits == .all ? count : logits == .last ? 1 : 0
    }

    /// Gets pages for positions below `end`; sequences that came later give theirs up if need be.
    ///
    /// - Returns: False if the sequence itself had to leave the batch.
    private func reserve(_ member: Member, upTo end: Int) -> Bool {
        let sequence = member.sequence
        while sequence.pages.count < PageAllocator.pages(forPositions: end) {
            if let page = pass.pages.allocate() {
                sequence.pages.append(page)
                continue
            }
            if prefixes.evict(&pass.pages) { continue }
            guard let victim = active.last,
                places.allSatisfy({ $0.member.sequence !== victim.sequence })
            else {
                preempt(member)
                return false
            }
            preempt(victim)
            if victim.sequence === sequence { return false }
        }
        return true
    }

    /// Puts a sequence back in the queue, to be computed again from its tokens.
    private func preempt(_ member: Member) {
        active.removeAll { $0.sequence === member.sequence }
        release(member.sequence)
        waiting.prepend(member)
    }

    private func release(_ sequence: GenerationSequence) {
        for page in sequence.pages { pass.pages.release(page) }
        sequence.pages = []
        sequence.computed = 0
        sequence.knownPages = 0
        sequence.lastNode = -1
    }

    // MARK: Which tokens

    private func choose() throws {
        var wanted: [BatchSampler.Row] = []
        var choosing: [Place] = []
        for place in places {
            let sequence = place.member.sequence
            sequence.computed = place.positions.upperBound
            keepPages(of: sequence)
            if place.logits == .all { try scorePrompt(place) }
            let reachesEnd = place.positions.upperBound == sequence.tokens.count
            guard reachesEnd else { continue }
            if sequence.request.maximumTokens == 0 {
                _ = sequence.end(.length)
                leave(place.member)
                continue
            }
            let row = pass.logitRow(
                span: place.span, row: place.logits == .all ? place.positions.count - 1 : 0)
            wanted.append(
                BatchSampler.Row(
                    logits: row, sampling: sequence.request.sampling,
                    prompt: sequence.request.prompt,
                    answer: Array(sequence.answer), random: sequence.random,
                    logprobs: sequence.request.logprobs))
            choosing.append(place)
        }
        let chosen = try sampler.choose(wanted)
        generated += chosen.count
        for (place, outcome) in zip(choosing, chosen) { take(outcome, place.member) }
    }

    private func take(_ outcome: BatchSampler.Outcome?, _ member: Member) {
        let sequence = member.sequence
        guard let outcome else {
            failRequest(
                member.request,
                GenerationError(
                    .notFinite,
                    "the model's logits at position \(sequence.tokens.count) are no numbers"))
            return
        }
        let piece = sequence.append(
            outcome.token, logprob: outcome.logprob, lastPosition: positions)
        if !piece.isEmpty {
            member.request.emit(
                .text(choice: sequence.index, tokenIndex: sequence.answer.count - 1, piece))
        }
        if sequence.finish != nil {
            leave(member)
        } else if pass.decoder.config.rotationDiffers(sequence.computed, sequence.tokens.count) {
            // Keys that turn otherwise are of no use to a longer sequence: all is computed again, in chunks.
            release(sequence)
        }
    }

    /// Log probabilities of the prompt tokens that the span predicts.
    private func scorePrompt(_ place: Place) throws {
        let sequence = place.member.sequence
        let end = min(place.positions.upperBound, sequence.promptCount - 1)
        guard sequence.promptLogprobs.count < sequence.promptCount else { return }
        if place.positions.lowerBound == 0, sequence.promptLogprobs.isEmpty {
            sequence.promptLogprobs.append(
                TokenLogprob(token: sequence.tokens[0], logprob: nil, top: []))
        }
        guard place.positions.lowerBound < end else { return }
        for position in place.positions.lowerBound..<end
        where sequence.promptLogprobs.count == position + 1 {
            let row = pass.logitRow(span: place.span, row: position - place.positions.lowerBound)
            sequence.promptLogprobs.append(
                try sampler.logprob(
                    of: sequence.tokens[position + 1], row: row,
                    top: sequence.request.logprobs ?? 0))
        }
    }

    private func leave(_ member: Member) {
        release(member.sequence)
        active.removeAll { $0.sequence === member.sequence }
        member.request.open -= 1
        if member.request.open == 0 { finish(member.request) }
    }

    private func finish(_ running: Running) {
        guard requests.removeValue(forKey: running.id) != nil else { return }
        let first = running.sequences[0]
        running.emit(
            .finished(
                GenerationResult(
                    choices: running.sequences.map(\.choice), promptLogprobs: first.promptLogprobs,
                    promptTokens: first.promptCount, cachedTokens: first.cachedTokens ?? 0,
                    completionTokens: running.sequences.reduce(0) { $0 + $1.answer.count })))
    }

    private func failRequest(_ running: Running, _ error: GenerationError) {
        guard requests.removeValue(forKey: running.id) != nil else { return }
        for sequence in running.sequences { release(sequence) }
        waiting.removeAll { $0.request === running }
        active.removeAll { $0.request === running }
        running.emit(.failed(error))
    }
}
