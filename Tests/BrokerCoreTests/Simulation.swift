import Collections

@testable import BrokerCore

/// One history of clients, workers and a broker under a virtual clock, all chance from one seed.
///
/// The broker is the core with a model store behind a slow disk: steps are committed later, in order; a crash loses what
/// was not committed and whatever was not sent. Messages are late, out of order, repeated, and lost: some by themselves,
/// others with their peer. Clients, workers and the broker crash; commits fail; the host and single processes sleep.
final class Simulation {
    struct Config {
        var seconds = 150
        var clients = 2
        var workers = 3
        var jobs = 14
        var isQuiet = false
        /// The core is broken on purpose in this way.
        var fault: PlantedFault?
        /// So is the outbox: messages leave before what they tell of is on disk.
        var sendsBeforeCommit = false
    }

    private struct Entry: Comparable {
        let at: Int64
        let order: Int
        let run: () throws -> Void
        static func < (left: Entry, right: Entry) -> Bool {
            (left.at, left.order) < (right.at, right.order)
        }
        static func == (left: Entry, right: Entry) -> Bool { left.order == right.order }
    }

    struct Failure: Error, CustomStringConvertible { let description: String }

    /// What is wrong with this run, found while it went on.
    var violation: String?

    var random: SeededRandom
    let config: Config
    let limits: Limits
    var now: Int64 = 1_000_000_000
    private var queue = Heap<Entry>()
    private var order = 0

    var store = ModelStore()
    var core: Core?
    /// Grows with each start and each reload: what an earlier core had in hand dies with it.
    var incarnation = 0
    private var commits: [(step: Step, at: Int64)] = []
    private var lastCommitAt: Int64 = 0
    private var exitsToReport: [ProcessExit] = []

    var workers: [SimulatedWorker]
    private var nextPeer: UInt64 = 100
    private var nextRequest: UInt64 = 0
    private var sessions: [PeerID: Token] = [:]
    /// When somebody last said that he holds this, and when a worker last said HELLO.
    private var renewals: [AttemptKey: Int64] = [:]
    private var heardAt: [String: Int64] = [:]
    /// The broker's start, or the end of the host's sleep.
    private var leaseClock: Int64 = 0
    private var helloNumbers: [PeerID: Int] = [:]
    /// Which HELLO of its worker a session answers.
    private var hellos: [Token: Int] = [:]
    private var pending: [UInt64: (Reply) -> Void] = [:]
    private(set) var faultsEnd: Int64

    // What clients were told.
    var submitted: [JobID: Submission] = [:]
    var acknowledged: Set<JobID> = []
    var acceptedResults: [AttemptKey] = []
    /// Jobs of which somebody had everything run again.
    var retriedWhole: Set<JobID> = []
    var reportedDone: [AttemptKey: Int] = [:]
    var trace: [String] = []

    init(seed: UInt64, config: Config = Config()) {
        random = SeededRandom(seed: seed)
        self.config = config
        var limits = Limits()
        limits.endedJobsKept = 3
        limits.window = 12
        limits.linesPerPiece = 5
        limits.graceMilliseconds = 15_000
        limits.bulkLines = 15
        limits.preemptionGap = 2
        limits.lost.budget = 1000
        limits.timeout.budget = 1000
        limits.retryable.budget = 1000
        self.limits = limits
        faultsEnd = Int64(config.seconds) * 1_000_000_000
        workers = (0..<config.workers).map {
            SimulatedWorker(instance: "w\($0)", sequences: 2 + 2 * $0, peer: PeerID(UInt64($0)))
        }
    }

    var moment: Moment { Moment(monotonic: now, wall: 1_700_000_000_000 + now / 1_000_000) }
    var areFaultsOn: Bool { !config.isQuiet && now < faultsEnd }

    func at(_ delay: Double, _ run: @escaping () throws -> Void) {
        order += 1
        queue.insert(Entry(at: now + Int64(delay * 1e9), order: order, run: run))
    }

    func chance(_ probability: Double) -> Bool { areFaultsOn && random.chance(probability) }
    func between(_ low: Double, _ high: Double) -> Double {
        low + (high - low) * Double(random.below(1_000_000)) / 1e6
    }

    // MARK: The run

    /// Runs until every job has ended; throws what went wrong, with the last of the trace.
    func run() throws {
        do {
            startBroker()
            for place in workers.indices {
                at(between(0, 2)) { [unowned self] in startWorker(place) }
            }
            scheduleClients()
            scheduleTicks()
            var steps = 0
            while let entry = queue.popMin() {
                now = max(now, entry.at)
                try entry.run()
                steps += 1
                if let violation { throw Failure(description: violation) }
                if now > faultsEnd, isOver { break }
                guard now < faultsEnd + 7_200_000_000_000, steps < 2_000_000 else {
                    throw Failure(description: "jobs that never end: \(openJobs)")
                }
            }
            try HistoryChecker(self).check()
        } catch {
            throw Failure(
                description: "\(error)\n" + trace.suffix(60).joined(separator: "\n"))
        }
    }

    /// The core, when nothing of it waits for the disk.
    var settledCore: Core? { commits.isEmpty ? core : nil }

    /// A reason for waiting that is not true: somebody who could take the job has room.
    private func checkReasons() {
        guard let core else { return }
        for id in core.jobs.keys.sorted() {
            guard let job = core.job(id), !job.status.state.isFinal else { continue }
            guard let reason = core.explain(id, at: moment), !reason.code.isEmpty else {
                violation = "job \(id) waits for nothing that can be named"
                return
            }
            let resourceClass = job.submission.kind == "infer" ? "sequence" : "job"
            let hasRoom = core.workerList.contains {
                $0.isOpen && $0.classes[job.submission.kind] != nil
                    && $0.available(resourceClass) > 0
            }
            let isTrue =
                switch reason.code {
                case "RUNNING": job.status.counts.leased > 0
                case "HELD": job.status.isHeld
                case "BACKOFF": job.status.counts.backoff > 0
                case "DEPENDENCY": job.submission.after.contains { !$0.isFulfilled }
                case "NO_CREDIT": !hasRoom
                case "WORKER_NOT_READY": core.workerList.isEmpty
                default: true
                }
            if !isTrue { violation = "job \(id) is said to wait for \(reason.code), and does not" }
        }
    }

    private var isOver: Bool {
        submitted.keys.allSatisfy { store.job($0)?.status.state.isFinal == true }
    }

    private var openJobs: String {
        store.jobs.values.filter { !$0.status.state.isFinal }
            .map {
                "\($0.sequence) \($0.status.state) \($0.status.counts) \(core?.explain($0.id, at: moment)?.message ?? "")"
            }
            .joined(separator: "; ")
    }

    func note(_ text: @autoclosure () -> String) {
        trace.append("\(Double(now / 1_000_000) / 1000) \(text())")
        if trace.count > 2_000 { trace.removeFirst(1_000) }
    }

    // MARK: The broker

    private func startBroker() {
        incarnation += 1
        commits = []
        pending = [:]
        leaseClock = now
        let seed = random.next()
        let core = Core(
            restoring: store.snapshot, limits: limits, random: SeededRandom(seed: seed), at: moment)
        core.plantedFault = config.fault
        self.core = core
        note("broker starts, incarnation \(incarnation)")
        commit(core.resume(at: moment))
        step(.plugins(Harness.plugins))
        for exit in exitsToReport { step(.workerExited(exit)) }
        exitsToReport = []
    }

    private func crashBroker() {
        note("broker crashes; \(commits.count) commits lost")
        core = nil
        incarnation += 1
        commits = []
        at(between(0.1, 8)) { [unowned self] in startBroker() }
    }

    /// Hands an event to the core, if there is one.
    func step(_ event: Event) {
        guard let core else { return }
        switch event {
        case .workerBeat(let beat): for held in beat.held { renewals[held.key] = now }
        case .workerHello(let hello): heardAt[hello.instance] = now
        default: break
        }
        let step = core.step(event, at: moment)
        if case .workerHello(let hello) = event {
            for case .welcome(_, let welcome) in step.actions {
                hellos[welcome.session] = helloNumbers[hello.peer]
            }
        }
        commit(step)
    }

    /// No lease outlives, by more than a few ticks, the time since anybody last said that he holds it. (After a broker's
    /// start its grace comes first; a host that slept begins anew.)
    private func checkLeases() {
        guard core != nil else { return }
        let patience = Int64(limits.leaseMilliseconds + 15_000) * 1_000_000
        for task in store.tasks.values {
            guard task.state == .leased, let lease = task.lease, let worker = task.worker else {
                continue
            }
            let key = AttemptKey(task: task.id, attempt: task.attempt, lease: lease)
            if renewals[key] == nil { renewals[key] = now }
            let last = max(renewals[key] ?? 0, heardAt[worker] ?? 0, leaseClock)
            if now - last > patience {
                violation =
                    "the lease of \(key.task) on \(worker) goes on \((now - last) / 1_000_000) ms after its last beat"
            }
        }
    }

    func say(_ hello: WorkerHello, number: Int) {
        helloNumbers[hello.peer] = number
        step(.workerHello(hello))
    }

    private func commit(_ step: Step) {
        guard !step.mutations.isEmpty || !step.actions.isEmpty else { return }
        let mine = incarnation
        if config.sendsBeforeCommit { for action in step.actions { perform(action) } }
        lastCommitAt = max(lastCommitAt, now + Int64(between(0.0005, 0.02) * 1e9))
        commits.append((step, lastCommitAt))
        at(Double(lastCommitAt - now) / 1e9) { [unowned self] in
            guard incarnation == mine, !commits.isEmpty else { return }
            let step = commits.removeFirst().step
            if chance(0.0015) {
                note("a commit fails")
                for request in pending.keys.sorted() { pending[request] = nil }
                return startBroker()
            }
            try store.apply(step.mutations)
            if config.sendsBeforeCommit { return }
            for action in step.actions {
                // Between the commit and this message the broker may die.
                if chance(0.0002) { return crashBroker() }
                perform(action)
            }
        }
    }

    private func scheduleTicks() {
        at(0.5) { [unowned self] in
            step(.tick)
            checkLeases()
            checkReasons()
            if core != nil, chance(0.004) { crashBroker() }
            if chance(0.002) {
                // The whole host sleeps.
                note("host sleeps")
                now += Int64(between(5, 40_000) * 1e9)
                faultsEnd = max(faultsEnd, now + 30_000_000_000)
                leaseClock = now
            }
            scheduleTicks()
        }
    }

    private func perform(_ action: Action) {
        switch action {
        case .reply(let request, let reply):
            pending.removeValue(forKey: request.number)?(reply)
        case .lookUpJobs(let lookup, let ids):
            later(between(0.001, 0.1)) { [unowned self] in
                let found = ids.compactMap { store.job($0) }
                step(
                    .jobsFound(
                        lookup: lookup, found: found,
                        pruned: ids.filter { store.tombstones.contains($0) }))
            }
        case .split(let request): split(request)
        case .loadLines(let request):
            let pending = store.pendingLines(request)
            let isPoison = submitted[request.job]?.label == "poison"
            let lines = pending.lines.map {
                LoadedLine(
                    index: $0.index,
                    customID: isPoison && $0.index == 1 ? "poison" : "l\($0.index)",
                    location: LineLocation(offset: 0, length: 1, number: Int64($0.index + 1)),
                    references: [], previousAttempts: $0.attempts)
            }
            later(between(0.001, 0.5)) { [unowned self] in
                step(.linesLoaded(request, lines, next: pending.next))
            }
        default: deliver(action)
        }
    }

    /// Something that only the present broker waits for.
    private func later(_ delay: Double, _ run: @escaping () -> Void) {
        let mine = incarnation
        at(delay) { [unowned self] in if incarnation == mine { run() } }
    }

    private func split(_ request: SplitRequest) {
        let lines = 2 + Int(request.job.low % 30)
        var bad: [BadLine] = []
        if request.job.low % 5 == 0 {
            bad.append(
                BadLine(
                    index: lines - 1, number: Int64(lines), customID: nil,
                    error: BrokerError(.badLine, .user, "not JSON")))
        }
        later(between(0.01, 1)) { [unowned self] in
            step(.splitPart(request.job, blocks: [], badLines: bad, references: []))
        }
        later(1.5) { [unowned self] in step(.splitFinished(request.job, lines: lines)) }
    }

    // MARK: From the broker to workers

    private func deliver(_ action: Action) {
        func send(_ peer: PeerID, _ what: @escaping (Int) -> Void) {
            guard let place = workers.firstIndex(where: { $0.peer == peer }) else { return }
            if chance(0.01) { return note("a message to \(workers[place].instance) is lost") }
            let pid = workers[place].pid
            at(between(0.0001, 0.01)) { [unowned self] in
                let worker = workers[place]
                guard worker.isAlive, worker.pid == pid, worker.peer == peer else { return }
                // A stopped process reads its messages when it goes on.
                if worker.stoppedUntil > now {
                    at(Double(worker.stoppedUntil - now) / 1e9) { [unowned self] in
                        if workers[place].pid == pid, workers[place].isAlive { what(place) }
                    }
                } else {
                    what(place)
                }
            }
        }
        switch action {
        case .welcome(let peer, let welcome):
            sessions[peer] = welcome.session
            let hello = hellos[welcome.session]
            send(peer) { [unowned self] place in
                // A WELCOME to an older HELLO than the last is ignored.
                guard workers[place].helloNumber == hello else { return }
                workers[place].welcome(welcome)
                sendCredit(place)
                for result in workers[place].spool { sendResult(place, result) }
            }
        case .dispatch(let peer, _, let assignments):
            // A worker takes no task of another session than its own.
            let session = sessions[peer]
            send(peer) { [unowned self] place in
                if workers[place].session == session { receive(place, assignments) }
            }
        case .beatAck(let peer, let keys):
            send(peer) { [unowned self] place in drop(place, keys) }
        case .cancelAttempts(let peer, let keys, let reason):
            send(peer) { [unowned self] place in
                if workers[place].isDeaf { return }
                for key in keys { giveUp(place, key, reason == "hung" ? .cancelled : nil) }
            }
        case .preemptAttempts(let peer, let keys, _):
            send(peer) { [unowned self] place in
                for key in keys { giveUp(place, key, .preempted) }
            }
        case .acknowledge(let peer, let statuses):
            for status in statuses where status.isAccepted { noteAccepted(status, peer) }
            send(peer) { [unowned self] place in
                for status in statuses {
                    workers[place].spool.removeAll {
                        $0.key.task == status.task && $0.key.attempt == status.attempt
                    }
                }
            }
        case .unknownSession(let peer):
            send(peer) { [unowned self] place in
                if workers[place].session != nil { sayHello(place) }
            }
        case .drainWorker(let peer, _):
            send(peer) { [unowned self] place in workers[place].isDraining = true }
        case .killWorker(let instance, let reason):
            if let place = workers.firstIndex(where: { $0.instance == instance }) {
                note("kill \(instance): \(reason)")
                at(0.01) { [unowned self] in crash(place, signal: 9) }
            }
        default: break
        }
    }

    private func noteAccepted(_ status: ResultStatus, _ peer: PeerID) {
        guard let worker = workers.first(where: { $0.peer == peer }),
            let result = worker.spool.first(where: {
                $0.key.task == status.task && $0.key.attempt == status.attempt
            })
        else { return }
        if case .ok = result.outcome { acceptedResults.append(result.key) }
    }

    // MARK: Requests of clients

    func newRequest() -> RequestID {
        nextRequest += 1
        return RequestID(nextRequest)
    }

    /// Sends a request; `answer` runs if its reply comes.
    func ask(
        _ event: Event, _ request: RequestID, answer: @escaping (Reply) -> Void = { _ in }
    ) {
        // The question is lost, or the answer, or the client dies and never hears it.
        if chance(0.03) { return note("a request is lost") }
        if !chance(0.03) { pending[request.number] = answer }
        at(between(0.0001, 0.05)) { [unowned self] in step(event) }
        if chance(0.02) { at(between(0.0001, 2)) { [unowned self] in step(event) } }
    }

    func newPeer() -> PeerID {
        nextPeer += 1
        return PeerID(nextPeer)
    }

    /// The supervisor sees a process end; a broker that is not there hears of it at its next start.
    func report(_ exit: ProcessExit) {
        if core == nil {
            exitsToReport.append(exit)
        } else {
            let mine = incarnation
            at(between(0.001, 0.1)) { [unowned self] in
                if incarnation == mine || core != nil {
                    step(.workerExited(exit))
                } else {
                    exitsToReport.append(exit)
                }
            }
        }
    }
}
