import JSONModel
import LinuxSystem
import WireProtocol

/// The worker's side of the protocol without sockets, threads or clock: messages and letters in,
/// messages and hand-overs out.
struct WorkerCore {
    /// What the plugin is to be told, in order.
    enum HandOver: Sendable {
        case task(WorkerTask)
        case stop(StopReason, @Sendable (StopReason) -> Void)
        case drain
    }

    /// Why the worker ends.
    enum Finish: Sendable, Equatable {
        case drained
        case brokerGone
        case refused(String)
    }

    let configuration: WorkerConfiguration
    let mailbox: Mailbox
    let pid: Int
    let startTicks: Int?

    // Session
    private(set) var session: String?
    private var helloID = 0
    private var nextHello: MonotonicTime
    private var helloInterval = Self.firstHelloInterval
    private var heartbeat = Duration.seconds(1)
    private var lease = Duration.seconds(15)
    private var nextBeat: MonotonicTime
    private var lastHeard: MonotonicTime
    private var lastFinish: MonotonicTime

    // Work
    private(set) var active: [AttemptName: TaskState] = [:]
    private(set) var spool = ResultSpool()
    private var activeByClass: [WireName: Int] = [:]
    /// Tasks sent to this worker since `HELLO`, and the totals it may be sent, by class.
    private var sent: [WireName: Int] = [:]
    private var announced: [WireName: Int] = [:]
    private var capacity: [WireName: Int]
    private var loaded: [BlobDigest] = []
    private(set) var isDraining = false

    // On their way out
    private var seq = 0
    private(set) var dispatchOut: [Message] = []
    private(set) var handOvers: [HandOver] = []
    private var progressOut: [AttemptName: (TaskState, ProgressObject)] = [:]
    private var ephemeralOut: [Message] = []
    private var nextProgress: MonotonicTime

    /// Between one `HELLO` without answer and the next. Without a connection one waits, unsent.
    static let firstHelloInterval = Duration.seconds(1)
    static let lastHelloInterval = Duration.seconds(8)
    static let progressInterval = Duration.milliseconds(100)
    static let resendInterval = Duration.seconds(10)
    static let maximumDispatchOut = 1_024

    init(
        _ configuration: WorkerConfiguration, mailbox: Mailbox, pid: Int, startTicks: Int?,
        now: MonotonicTime
    ) {
        self.configuration = configuration
        self.mailbox = mailbox
        self.pid = pid
        self.startTicks = startTicks
        capacity = configuration.capacity
        nextHello = now
        nextBeat = now
        lastHeard = now
        lastFinish = now
        nextProgress = now
    }

    // MARK: Time

    /// When `tick` wants to be called next.
    var nextTick: MonotonicTime {
        var next = session == nil ? nextHello : nextBeat
        if !progressOut.isEmpty { next = min(next, nextProgress) }
        return next
    }

    /// Does what is due.
    ///
    /// - Returns: Why the worker must end now, if it must.
    mutating func tick(_ now: MonotonicTime, residentBytes: () -> (now: Int, peak: Int?)) -> Finish?
    {
        if session != nil, now - lastHeard > lease {
            // No answer to beats for so long: the session may be gone with the broker.
            session = nil
            nextHello = now
        }
        if session == nil {
            if now >= nextHello { sayHello(now) }
        } else if now >= nextBeat {
            beat(now, residentBytes: residentBytes)
            spool.rewind(sentBefore: now + (.zero - Self.resendInterval))
        }
        if isDraining, active.isEmpty, spool.isEmpty, let session {
            Failpoint.byeMade.reach()
            enqueue(.bye, ByeHeader(session: session))
            return .drained
        }
        if let grace = configuration.brokerGrace, active.isEmpty,
            now - max(lastHeard, lastFinish) > grace
        {
            return .brokerGone
        }
        if isDraining, active.isEmpty, session == nil, now - max(lastHeard, lastFinish) > lease {
            // Told to stop, nothing runs, and nobody is there to take the results.
            return .brokerGone
        }
        return nil
    }

    private mutating func sayHello(_ now: MonotonicTime) {
        Failpoint.helloMade.reach()
        nextHello = now + helloInterval
        helloInterval = min(helloInterval * 2, Self.lastHelloInterval)
        helloID += 1
        // One at a time: an older one that was not sent yet is of no use.
        dispatchOut.removeAll { $0.verb == .hello || $0.verb == .beat || $0.verb == .credit }
        let holding =
            active.values.map { HoldingEntry($0.reference, class: $0.envelope.class) }
            + spool.entries.values.map {
                HoldingEntry($0.result.reference, finished: true, class: $0.resourceClass)
            }
        sent = [:]
        for entry in holding { if let name = entry.class { sent[name, default: 0] += 1 } }
        announced = [:]
        enqueue(
            .hello,
            WorkerHello(
                instance: configuration.instance, plugin: configuration.plugin,
                pluginVersion: configuration.pluginVersion, pid: pid, startTicks: startTicks,
                kinds: configuration.kinds, numerics: configuration.numerics,
                threads: configuration.threads, holding: holding),
            requestID: "hello-\(helloID)")
    }

    private mutating func beat(
        _ now: MonotonicTime, residentBytes: () -> (now: Int, peak: Int?)
    ) {
        guard let session else { return }
        Failpoint.beatMade.reach()
        nextBeat = now + heartbeat
        dispatchOut.removeAll { $0.verb == .beat }
        let held =
            active.values.map { BeatHeader.Held($0.reference, progress: $0.progress) }
            + spool.entries.values.map {
                BeatHeader.Held($0.result.reference, progress: $0.progress)
            }
        let memory = residentBytes()
        enqueue(
            .beat,
            BeatHeader(
                session: session, held: held, rssBytes: memory.now, peakBytes: memory.peak,
                loaded: loaded.isEmpty ? nil : loaded))
        // Credit is cumulative, so saying it again mends a lost one.
        announced = [:]
        announceCredit()
    }

    // MARK: From the broker

    mutating func receive(_ frames: [[UInt8]], now: MonotonicTime) -> Finish? {
        do throws(WireError) {
            let message = try Message(frames: frames)
            switch message.verb {
            case .welcome: try welcome(message, now)
            case .task: try take(message, now)
            case .beatAck:
                let ack = try message.decode(BeatAckHeader.self)
                heard(now)
                for reference in ack.drop { drop(reference) }
            case .preempt:
                heard(now)
                try requestStop(message, .preempted)
            case .cancel:
                heard(now)
                try requestStop(message, .cancelled)
            case .resultAck:
                heard(now)
                Failpoint.resultsAcknowledged.reach()
                for item in try message.decode(ResultAckHeader.self).results {
                    spool.remove(AttemptName(task: item.task, attempt: item.attempt))
                }
                announceCredit()
            case .drain:
                heard(now)
                startDraining()
            case .error: return try failed(message, now)
            default: break  // a newer broker's word: not for this worker
            }
        } catch {
            // One bad message from the broker must not cost the work in hand.
            ephemeralLog(.error, "a message from the broker could not be read: \(error)")
        }
        return nil
    }

    private mutating func heard(_ now: MonotonicTime) { lastHeard = now }

    private mutating func welcome(_ message: Message, _ now: MonotonicTime) throws(WireError) {
        if let id = message.requestID, id != "hello-\(helloID)" { return }
        let welcome = try message.decode(WorkerWelcome.self)
        Failpoint.welcomed.reach()
        session = welcome.session
        helloInterval = Self.firstHelloInterval
        heartbeat = .milliseconds(max(10, welcome.heartbeatMs))
        lease = .milliseconds(max(welcome.leaseMs, 2 * welcome.heartbeatMs))
        heard(now)
        nextBeat = now + heartbeat
        seq = 0
        for reference in welcome.drop { drop(reference) }
        spool.rewind()
        announceCredit()
    }

    private mutating func take(_ message: Message, _ now: MonotonicTime) throws(WireError) {
        let header = try message.decode(TaskHeader.self)
        // Of a session that this worker has given up: the broker hands them out anew.
        guard let session, header.session == nil || header.session == session else { return }
        Failpoint.taskReceived.reach()
        heard(now)
        for (index, envelope) in header.tasks.enumerated() {
            var line: [UInt8]?
            if let body = envelope.body {
                guard message.bodies.indices.contains(body) else {
                    throw WireError(
                        .badHeader, "there is no body \(body)", key: "tasks[\(index)].body")
                }
                line = message.bodies[body].bytes
            }
            let name = envelope.reference.name
            guard active[name] == nil, spool.entries[name] == nil else { continue }
            let state = TaskState(envelope: envelope, line: line)
            active[name] = state
            activeByClass[envelope.class, default: 0] += 1
            sent[envelope.class, default: 0] += 1
            handOvers.append(.task(WorkerTask(state: state, mailbox: mailbox)))
        }
    }

    private mutating func requestStop(_ message: Message, _ reason: StopReason) throws(WireError) {
        for name in try message.decode(StopHeader.self).tasks {
            if let state = active[name] { stop(state, reason) }
        }
    }

    private mutating func stop(_ state: TaskState, _ reason: StopReason) {
        if let action = state.requestStop(reason) { handOvers.append(.stop(reason, action)) }
    }

    private mutating func drop(_ reference: AttemptReference) {
        let name = reference.name
        if let state = active[name], state.reference == reference { stop(state, .dropped) }
        if let entry = spool.entries[name], entry.result.lease == reference.lease {
            spool.remove(name)
        }
    }

    private mutating func failed(_ message: Message, _ now: MonotonicTime) throws(WireError)
        -> Finish?
    {
        let error = try message.decodeError()
        if error.code == .unknownSession {
            session = nil
            nextHello = now
            heard(now)
            return nil
        }
        if message.requestID == "hello-\(helloID)", error.class == .user || error.class == .auth {
            return .refused("the broker refuses this worker: \(error)")
        }
        return nil
    }

    private mutating func startDraining() {
        guard !isDraining else { return }
        isDraining = true
        handOvers.append(.drain)
    }

    // MARK: From the plugin

    mutating func open(_ letter: Letter, now: MonotonicTime) {
        switch letter {
        case .ended(let state, let end): ended(state, end, now)
        case .putBack(let state, let reason, let retryAfter):
            leave(state)
            if let session, state.stopReason != .dropped {
                enqueue(
                    .defer,
                    DeferHeader(
                        session: session, tasks: [state.reference], reason: reason,
                        retryAfterMs: max(0, retryAfter.wholeMilliseconds)))
            }
            announceCredit()
        case .progress(let state, let progress):
            if active[state.reference.name] === state {
                progressOut[state.reference.name] = (state, progress)
            }
        case .chunk(let state, let text, let tokenIndex, let choice):
            guard let session, active[state.reference.name] === state else { return }
            let chunk = ChunkHeader(
                session: session, task: state.envelope.task, attempt: state.envelope.attempt,
                tokenIndex: tokenIndex, choice: choice == 0 ? nil : choice, text: text)
            if let message = try? Message(.chunk, chunk) { ephemeralOut.append(message) }
        case .log(let level, let text, let task): ephemeralLog(level, text, task)
        case .capacity(let name, let count):
            capacity[name] = count
            announceCredit()
        case .loaded(let digests): loaded = Array(digests.prefix(256))
        case .stop:
            startDraining()
            for state in active.values { stop(state, .preempted) }
        }
    }

    private mutating func leave(_ state: TaskState) {
        let name = state.reference.name
        guard active[name] === state else { return }
        active[name] = nil
        progressOut[name] = nil
        activeByClass[state.envelope.class, default: 1] -= 1
    }

    private mutating func ended(_ state: TaskState, _ end: TaskEnd, _ now: MonotonicTime) {
        Failpoint.taskEnded.reach()
        leave(state)
        lastFinish = now
        defer { announceCredit() }
        guard state.stopReason != .dropped else { return }
        var end = end
        // The broker adds a line feed to what it keeps.
        if let body = end.body, body.count >= WireLimits.bodyBytes {
            end = TaskEnd(
                .error,
                error: ErrorObject(
                    .tooLarge, .user,
                    "the result has \(body.count) bytes, at most \(WireLimits.bodyBytes - 1) fit"))
        }
        if var error = end.error {
            error.message = String(error.message.prefix(4_000))
            end.error = error
        }
        let result = TaskResult(
            state.reference, outcome: end.outcome, error: end.error, usage: end.usage,
            metrics: end.metrics, artifacts: end.artifacts)
        spool.add(
            result, body: end.body, resourceClass: state.envelope.class, progress: state.progress)
    }

    private mutating func ephemeralLog(
        _ level: LogHeader.Level, _ text: String, _ task: TaskID? = nil
    ) {
        guard let session else { return }
        seq += 1
        let header = LogHeader(
            session: session, seq: seq, level: level, message: String(text.prefix(8_000)),
            task: task)
        if let message = try? Message(.log, header) { ephemeralOut.append(message) }
    }

    mutating func noteDropped(_ count: Int) {
        guard count > 0 else { return }
        ephemeralLog(.warning, "\(count) chunks, logs or progress reports were dropped")
    }

    // MARK: Credit

    /// Says how many tasks the worker may have been sent in all, where that has changed.
    private mutating func announceCredit() {
        guard let session, !isDraining else { return }
        let total = active.count + spool.count
        let room =
            spool.count < configuration.spoolResults && spool.bytes < configuration.spoolBytes
            ? max(0, WorkerConfiguration.maximumHeld - total) : 0
        var classes: [String: Int] = [:]
        var changed = false
        for (name, count) in capacity {
            let free = min(room, max(0, count - activeByClass[name, default: 0]))
            let credit = sent[name, default: 0] + free
            // Never taken back: what was promised may be on its way.
            let promised = max(credit, announced[name] ?? 0)
            classes[name.text] = promised
            if promised != announced[name] {
                announced[name] = promised
                changed = true
            }
        }
        guard changed else { return }
        dispatchOut.removeAll { $0.verb == .credit }
        enqueue(.credit, CreditHeader(session: session, classes: classes))
    }

    // MARK: To the broker

    private mutating func enqueue(
        _ verb: Verb, _ header: some Encodable, requestID: String? = nil
    ) {
        guard let message = try? Message(verb, header, requestID: requestID) else { return }
        if dispatchOut.count >= Self.maximumDispatchOut { dispatchOut.removeFirst() }
        dispatchOut.append(message)
    }

    /// Sends what waits on the dispatch socket; `send` says whether there was room.
    mutating func flushDispatch(_ send: ([[UInt8]]) throws -> Bool) rethrows {
        var count = 0
        defer { dispatchOut.removeFirst(count) }
        for message in dispatchOut {
            guard let frames = try? message.frames() else {
                count += 1
                continue
            }
            guard try send(frames) else { return }
            count += 1
        }
    }

    mutating func takeHandOvers() -> [HandOver] {
        defer { handOvers = [] }
        return handOvers
    }

    /// Sends what waits on the results socket.
    ///
    /// - Returns: False if there was no room for all of it.
    mutating func flushResults(
        now: MonotonicTime, _ send: ([[UInt8]]) throws -> Bool
    ) rethrows -> Bool {
        guard let session else { return true }
        while spool.hasUnsent {
            guard let (frames, entries) = resultFrames(session) else { continue }
            guard try send(frames) else { return false }
            spool.markSent(entries, at: now)
            Failpoint.resultsSent.reach()
        }
        if !progressOut.isEmpty, now >= nextProgress {
            nextProgress = now + Self.progressInterval
            for (state, progress) in progressOut.values {
                seq += 1
                let header = ProgressHeader(
                    session: session, seq: seq, state.reference, progress)
                if let message = try? Message(.progress, header) { ephemeralOut.append(message) }
            }
            progressOut = [:]
        }
        for (index, message) in ephemeralOut.enumerated() {
            guard let frames = try? message.frames() else { continue }
            guard try send(frames) else {
                // Chunks and logs are not worth a queue behind a broker that does not read.
                ephemeralOut.removeFirst(index)
                if ephemeralOut.count > Mailbox.maximumLossy { ephemeralOut.removeAll() }
                return false
            }
        }
        ephemeralOut = []
        return true
    }

    /// As many waiting results as fit one message.
    private mutating func resultFrames(_ session: String) -> ([[UInt8]], [ResultSpool.Entry])? {
        var limit = WireLimits.results
        while true {
            let entries = spool.next(count: limit, bytes: WireLimits.bodyBytes)
            guard let first = entries.first else { return nil }
            var bodies: [Message.Body] = []
            var results: [TaskResult] = []
            for entry in entries {
                var result = entry.result
                if let body = entry.body {
                    result.body = bodies.count
                    bodies.append(Message.Body("result", body))
                }
                results.append(result)
            }
            let header = ResultHeader(session: session, seq: seq + 1, results: results)
            if let frames = try? Message(.result, header, bodies: bodies).frames() {
                seq += 1
                return (frames, entries)
            }
            if entries.count > 1 {
                limit = max(1, entries.count / 2)
                continue
            }
            // One alone does not fit: its artifacts or details are too large for a header.
            let error = ErrorObject(
                .tooLarge, .user,
                "the result's header is over \(WireLimits.headerBytes) bytes; make `meta`, "
                    + "`metrics` or `details` smaller")
            spool.replace(
                first.result.name,
                with: TaskResult(first.result.reference, outcome: .error, error: error), body: nil)
        }
    }
}
