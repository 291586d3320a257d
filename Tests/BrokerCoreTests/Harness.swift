import BrokerCore

/// A core with a model store behind it: every step is committed at once.
final class Harness {
    var store = ModelStore()
    var core: Core
    let limits: Limits
    var now: Int64 = 1_000_000_000
    var seed: UInt64 = 1
    var nextRequest: UInt64 = 1
    var sessions: [String: Token] = [:]
    var peers: [String: PeerID] = [:]
    var nextPeer: UInt64 = 1
    /// Every action of the last `send`.
    var actions: [Action] = []
    /// Attempts given out and not reported on, by worker.
    var given: [String: [Assignment]] = [:]

    static let plugins = [
        PluginDescription(
            name: "lora",
            kinds: [
                PluginKind(name: "infer", resourceClass: "sequence", stallMilliseconds: 30_000),
                PluginKind(name: "finetune", resourceClass: "job", stallMilliseconds: 60_000),
                PluginKind(name: "prepare", resourceClass: "job"),
            ], instances: 2)
    ]

    init(limits: Limits = Limits()) {
        self.limits = limits
        core = Core(
            limits: limits, random: SeededRandom(seed: 7), at: Moment(monotonic: now, wall: 0))
        take(core.resume(at: moment))
        send(.plugins(Self.plugins))
    }

    /// Somebody sets the wall clock: milliseconds that it is off.
    var wallOffset: Int64 = 0

    var moment: Moment {
        Moment(monotonic: now, wall: 1_700_000_000_000 + now / 1_000_000 + wallOffset)
    }

    /// As `kill -9` of the broker and a new start.
    func restart() {
        core = Core(
            restoring: store.snapshot, limits: limits, random: SeededRandom(seed: seed),
            at: moment)
        seed += 1
        sessions = [:]
        actions = []
        take(core.resume(at: moment))
        send(.plugins(Self.plugins), keep: true)
    }

    private func take(_ step: Step) {
        do {
            try store.apply(step.mutations)
        } catch {
            fatalError("\(error)")
        }
        actions += step.actions
        for action in step.actions {
            if case .dispatch(_, let instance, let assignments) = action {
                given[instance, default: []] += assignments
            }
            if case .welcome(_, let welcome) = action {
                sessions[welcome.instance] = welcome.session
            }
        }
    }

    func send(_ event: Event, keep: Bool = false) {
        if !keep { actions = [] }
        take(core.step(event, at: moment))
    }

    /// Lets time go on in ticks of half a second, with beats from the workers in `alive`.
    func pass(seconds: Double, alive: [String] = [], progress: Int64? = nil) {
        actions = []
        let end = now + Int64(seconds * 1e9)
        while now < end {
            now = min(end, now + 500_000_000)
            for instance in alive {
                guard let session = sessions[instance], let peer = peers[instance] else { continue }
                let held = (given[instance] ?? []).map {
                    HeldAttempt(key: $0.key, progress: progress ?? now)
                }
                send(.workerBeat(WorkerBeat(peer: peer, session: session, held: held)), keep: true)
            }
            send(.tick, keep: true)
        }
    }

    // MARK: Clients

    func id(_ number: Int) -> JobID {
        JobID(high: UInt64(1_700_000_000_000 + number) << 16 | 0x7000, low: 0x8000_0000_0000_0000)
    }

    static func digest(_ number: Int) -> Digest {
        let hex = String(number, radix: 16)
        let text = String(repeating: "0", count: 64 - hex.count) + hex
        guard let digest = Digest(hex: text) else { fatalError("digest") }
        return digest
    }

    func submission(_ number: Int, kind: String = "finetune", lines: Bool = false) -> Submission {
        var submission = Submission(
            id: id(number), kind: kind, spec: Array("{}".utf8), digest: Self.digest(number),
            shape: lines ? .lines(blob: Self.digest(1_000_000 + number)) : .single)
        submission.cost = 1
        return submission
    }

    @discardableResult
    func submit(_ submissions: Submission...) -> [SubmitAnswer] {
        let request = newRequest()
        send(.submit(submissions, request: request))
        guard case .submitted(let answers) = reply(request) else { return [] }
        return answers
    }

    /// Submits a batch and splits it into `count` good lines.
    func submitBatch(_ number: Int, lines count: Int, change: (inout Submission) -> Void = { _ in })
    {
        var submission = submission(number, kind: "infer", lines: true)
        change(&submission)
        submit(submission)
        split(number, lines: count)
    }

    func split(_ number: Int, lines count: Int, bad: [BadLine] = [], references: [String] = []) {
        send(.splitPart(id(number), blocks: [], badLines: bad, references: references))
        send(.splitFinished(id(number), lines: count))
        load()
    }

    /// Answers what the core asked for, until it asks no more.
    func load(references: [String] = []) {
        var answered = 0
        var kept = actions
        while true {
            let requests = kept.compactMap { action -> LineRequest? in
                if case .loadLines(let request) = action { return request }
                return nil
            }.dropFirst(answered)
            guard let request = requests.first else { break }
            answered += 1
            let pending = store.pendingLines(request)
            let lines = pending.lines.map {
                LoadedLine(
                    index: $0.index, customID: "line-\($0.index)",
                    location: LineLocation(
                        offset: Int64($0.index * 100), length: 99, number: Int64($0.index + 1)),
                    references: references, previousAttempts: $0.attempts)
            }
            send(.linesLoaded(request, lines, next: pending.next))
            kept += actions
        }
        actions = kept
    }

    func newRequest() -> RequestID {
        nextRequest += 1
        return RequestID(nextRequest)
    }

    func reply(_ request: RequestID) -> Reply? {
        for case .reply(request, let reply) in actions { return reply }
        return nil
    }

    func state(_ number: Int) -> JobState? { store.job(id(number))?.status.state }
    func counts(_ number: Int) -> JobCounts? { store.job(id(number))?.status.counts }
    func reason(_ number: Int) -> String? { core.explain(id(number), at: moment)?.code }

    // MARK: Workers

    func hello(
        _ instance: String, pid: Int32 = 100, numerics: String = "n1",
        kinds: [String] = ["infer", "finetune", "prepare"], sequences: Int = 4, jobs: Int = 1,
        holding: [AttemptKey] = []
    ) {
        nextPeer += 1
        let peer = PeerID(nextPeer)
        peers[instance] = peer
        send(
            .workerHello(
                WorkerHello(
                    peer: peer, instance: instance, plugin: "lora", pluginVersion: "1", pid: pid,
                    kinds: kinds, numerics: numerics, holding: holding)))
        credit(instance, ["sequence": sequences, "job": jobs])
    }

    func credit(_ instance: String, _ classes: [String: Int]) {
        guard let session = sessions[instance], let peer = peers[instance] else { return }
        send(.workerCredit(peer: peer, session: session, classes: classes), keep: true)
    }

    /// What the worker was given, oldest first, and forgets: the caller reports on it.
    func takeGiven(_ instance: String) -> [Assignment] {
        given.removeValue(forKey: instance) ?? []
    }

    @discardableResult
    func finish(
        _ assignment: Assignment, _ outcome: AttemptOutcome = .ok, session: Token? = nil,
        instance: String = "w1", change: (inout AttemptResult) -> Void = { _ in }
    ) -> Bool? {
        var result = AttemptResult(
            session: session ?? sessions[instance] ?? Token(high: 0, low: 0), key: assignment.key,
            outcome: outcome, location: ResultLocation(segment: 0, offset: 0, length: 2))
        change(&result)
        given[instance]?.removeAll { $0.key == assignment.key }
        send(.results([result]))
        for case .acknowledge(_, let statuses) in actions { return statuses.first?.isAccepted }
        return nil
    }

    func exit(
        _ instance: String, pid: Int32 = 100, signal: Int32 = 9, log: String = "last words",
        expected: Bool = false
    ) {
        given[instance] = nil
        sessions[instance] = nil
        send(
            .workerExited(
                ProcessExit(
                    instance: instance, pid: pid, status: .signaled(signal), peakBytes: 12345,
                    lastLog: log, isExpected: expected)))
    }
}
