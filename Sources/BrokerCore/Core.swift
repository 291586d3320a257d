import Collections

/// The broker's state machine: jobs, tasks, attempts, workers and artifacts.
///
/// Deterministic: the same events at the same moments with the same random source give the same steps. No I/O, no clock.
/// Not `Sendable`: one thread owns it. The runtime
/// 1. calls `resume` once, then feeds it every event, and `.tick` at `nextDeadline` at the latest, after the events that
///    have come in until then, so that nobody is called silent whose message waits to be read;
/// 2. hands each step's mutations to the store, in order, and performs its actions after their commit;
/// 3. when a commit fails, drops what waits and makes a new core from the store's snapshot.
public final class Core {
    public let limits: Limits

    // MARK: State. Other files of this module change it, nobody else sees it.

    var random: any RandomNumberGenerator
    /// The runtime's clock less all gaps so far: a time in which the broker was never away.
    var time: Int64
    var wall: Int64
    var skipped: Int64 = 0
    var lastMonotonic: Int64
    var out = Step()

    var jobs: [JobID: LiveJob] = [:]
    var endedOrder: Deque<JobID> = []
    var endedCounts: [JobState: Int]
    var openCounts: [JobState: Int] = [:]
    var greatestForgotten: JobID?
    /// Pruned in this broker run, the last ones: what is asked for twice counts once.
    var prunedLately: Set<JobID> = []
    var tombstonesSince: Int64
    var nextJobSequence: Int64
    var nextEventNumber: Int64
    var unfinishedJobs = 0
    var specBytes = 0
    /// Artifacts that jobs which have not ended will make.
    var promisedArtifacts = 0
    var dirtyJobs: [LiveJob] = []
    var newJobs: [LiveJob] = []
    /// Ended in this step; those that come after them are still to be told.
    var endedNow: Deque<LiveJob> = []
    var isPropagating = false

    var nextLookup: Int64 = 1
    var parked: [Int64: ParkedRequest] = [:]

    /// In the order in which they came up.
    var lanes: OrderedDictionary<LaneKey, Lane> = [:]
    var dirtyQueues: [ReadyQueue] = []
    /// Suspects that wait for a worker of their own.
    var waitingSuspects = 0
    var tenants: [String: Tenant] = [:]
    var classDispatches: [String: Int] = [:]
    var memoryInUse = 0
    var needsDispatch = false
    /// Assignments of this step, by worker.
    var outgoing: OrderedDictionary<String, [Assignment]> = [:]

    var timers = Heap<Timer>()
    var nextTimerOrder: Int64 = 0
    var lastSweep: Int64

    var plugins: [String: PluginDescription] = [:]
    /// Numerics last said by each instance of a plugin.
    var knownNumerics: [String: [String: String]] = [:]
    /// By instance name, sorted.
    var workerList: [LiveWorker] = []
    var workersByInstance: [String: LiveWorker] = [:]
    var workersBySession: [Token: LiveWorker] = [:]
    /// Leased before the broker's start, their worker not back yet.
    var orphans: [TaskID: LiveTask] = [:]
    var graceEnds: Int64
    var isBrokerDraining = false

    var versions: [String: [ArtifactRecord]] = [:]
    var lastVersions: [String: Int]
    var artifactCount = 0
    /// For tests only.
    var plantedFault: PlantedFault?
    /// Unfinished jobs that are bound to a version, or that name it and are not bound yet.
    var boundUses: [ArtifactKey: Int] = [:]
    var namedUses: [String: Int] = [:]

    public init(
        restoring snapshot: Snapshot = Snapshot(), limits: Limits = Limits(),
        random: any RandomNumberGenerator, at moment: Moment
    ) {
        self.limits = limits
        self.random = random
        time = moment.monotonic
        lastMonotonic = moment.monotonic
        wall = moment.wall
        lastSweep = moment.monotonic
        graceEnds = moment.monotonic + limits.graceMilliseconds.nanosecondsFromMilliseconds
        endedCounts = snapshot.endedJobs
        greatestForgotten = snapshot.greatestEndedJob
        tombstonesSince = snapshot.tombstonesSince
        nextJobSequence = snapshot.nextJobSequence
        nextEventNumber = snapshot.nextEventNumber
        lastVersions = snapshot.artifactVersions
        restore(snapshot)
    }

    /// What goes on after a start: splits and windows to ask for again. Called once, before any step.
    public func resume(at moment: Moment) -> Step {
        begin(at: moment)
        for job in jobs.values.sorted(by: { $0.sequence < $1.sequence }) {
            if job.isLines, job.status.counts.total == nil { startSplit(job, again: true) }
            settle(job)
        }
        return finish()
    }

    /// Takes one event in.
    public func step(_ event: Event, at moment: Moment) -> Step {
        begin(at: moment)
        handle(event)
        return finish()
    }

    /// When the next `.tick` is due at the latest, on the runtime's monotonic clock in nanoseconds.
    public func nextDeadline() -> Int64 {
        let sweep = lastSweep + limits.tickMilliseconds.nanosecondsFromMilliseconds
        return min(sweep, timers.min?.deadline ?? sweep) + skipped
    }

    private func handle(_ event: Event) {
        switch event {
        case .submit(let submissions, let request): submit(submissions, request)
        case .jobsFound(let lookup, let found, let pruned):
            unpark(lookup, found: found, pruned: pruned)
        case .cancel(let ids, let reason, let request):
            perform(.cancel(reason), on: ids, request)
        case .hold(let ids, let request): perform(.hold, on: ids, request)
        case .release(let ids, let request): perform(.release, on: ids, request)
        case .retry(let id, let scope, let anyNumerics, let request):
            retry(id, scope, anyNumerics: anyNumerics, request)
        case .tag(let reference, let tag, let remove, let request):
            setTag(reference, tag, remove: remove, request)
        case .removeArtifact(let reference, let force, let request):
            removeArtifact(reference, force: force, request)
        case .drain(let worker, let request): drain(worker, request)
        case .prune(let ended, let horizon): prune(ended, tombstonesBefore: horizon)
        case .splitPart(let id, let blocks, let badLines, let references):
            splitPart(id, blocks, badLines, references)
        case .splitFinished(let id, let lines): splitFinished(id, lines: lines)
        case .splitFailed(let id, let error): splitFailed(id, error)
        case .linesLoaded(let request, let lines, let next): linesLoaded(request, lines, next)
        case .loadFailed(let request, let error): loadFailed(request, error)
        case .plugins(let descriptions): setPlugins(descriptions)
        case .workerHello(let hello): workerHello(hello)
        case .workerCredit(let peer, let session, let classes):
            workerCredit(peer, session, classes)
        case .workerBeat(let beat): workerBeat(beat)
        case .workerDefer(let peer, let session, let tasks, let reason, let wait):
            workerDefer(peer, session, tasks, reason, wait)
        case .workerBye(let peer, let session): workerBye(peer, session)
        case .results(let results): takeResults(results)
        case .progress(let report): takeProgress(report)
        case .workerStarted(let instance, let plugin, let pid):
            publish("worker.started") {
                $0.worker = instance
                $0.message = "\(plugin), process \(pid)"
            }
        case .workerExited(let exit): workerExited(exit)
        case .brokerStarted(let version): publish("broker.started") { $0.message = version }
        case .tick: sweep()
        }
    }

    // MARK: Questions; they change nothing

    /// Whether a result for this attempt would be accepted now: only then is its body worth appending to a segment.
    public func accepts(_ key: AttemptKey) -> Bool { leasedTask(key) != nil }

    /// What was given out under this key; nil if the attempt is stale.
    public func assignment(_ key: AttemptKey) -> Assignment? {
        guard let task = leasedTask(key) else { return nil }
        let kind = task.job.submission.kind
        return makeAssignment(task, key, task.worker?.classes[kind] ?? kind)
    }

    /// A job in memory: every unfinished one, and those that ended lately. Others are in the store.
    public func job(_ id: JobID) -> JobRecord? { jobs[id]?.record }

    /// The newest progress of a job in this broker run.
    public func progress(of id: JobID) -> ProgressReport? { jobs[id]?.progress }

    /// Whether a reference exists now, or will be produced by what the job comes after.
    public func canResolve(_ reference: String, for job: JobID) -> Bool {
        resolve(reference) != nil
            || isProduced(reference, by: jobs[job]?.after.map(\.job) ?? [])
    }

    /// The artifact that a reference means now.
    public func artifact(_ reference: String) -> ArtifactRecord? { resolve(reference) }

    /// Artifacts, ordered by name and version, after a key. `prefix`: a name, or `M:` for all adapters of M.
    public func artifacts(type: String?, prefix: String?, after: ArtifactKey?, limit: Int)
        -> [ArtifactRecord]
    {
        let names = versions.keys.filter { name in
            guard let prefix else { return true }
            return prefix.hasSuffix(":") ? name.hasPrefix(prefix) : name == prefix
        }
        var found: [ArtifactRecord] = []
        for name in names.sorted() where after.map({ name >= $0.name }) ?? true {
            for record in versions[name] ?? [] where type == nil || record.type == type {
                if let after, after.name == name, record.version <= after.version { continue }
                guard found.count < limit else { return found }
                found.append(record)
            }
        }
        return found
    }

    public func workers() -> [WorkerView] {
        workerList.map { worker in
            var credit: [String: Int] = [:]
            for name in worker.credit.keys { credit[name] = worker.available(name) }
            let state =
                time - worker.lastHeard > 3
                    * limits.heartbeatMilliseconds.nanosecondsFromMilliseconds
                ? "silent" : worker.isDraining ? "draining" : worker.held.isEmpty ? "ready" : "busy"
            return WorkerView(
                instance: worker.instance, plugin: worker.hello.plugin,
                pluginVersion: worker.hello.pluginVersion, pid: worker.hello.pid,
                kinds: worker.hello.kinds, numerics: worker.hello.numerics, state: state,
                held: worker.heldInOrder.map(\.id), credit: credit,
                heldCounts: worker.heldCounts.filter { $0.value > 0 },
                residentBytes: worker.residentBytes, peakBytes: worker.peakBytes,
                silentNanoseconds: time - worker.lastHeard)
        }
    }

    /// Jobs by state, all that the store knows.
    public var jobCounts: [JobState: Int] {
        openCounts.merging(endedCounts) { $0 + $1 }.filter { $0.value > 0 }
    }

    public var isDraining: Bool { isBrokerDraining }

    // MARK: The frame of a step

    private func begin(at moment: Moment) {
        let passed = moment.monotonic - lastMonotonic
        if passed > limits.gapMilliseconds.nanosecondsFromMilliseconds {
            // Nobody could be heard meanwhile: this time counts for nothing.
            skipped += passed
        }
        lastMonotonic = max(lastMonotonic, moment.monotonic)
        time = lastMonotonic - skipped
        wall = moment.wall
        runTimers()
    }

    private func finish() -> Step {
        if needsDispatch { dispatchAll() }
        fillWindows()
        flushOutgoing()
        var mutations: [Mutation] = []
        mutations.reserveCapacity(newJobs.count + out.mutations.count + dirtyJobs.count)
        for job in newJobs {
            job.isInserted = true
            if plantedFault == .losesSubmit, job.sequence % 4 == 3 { continue }
            prepareStatus(job)
            mutations.append(.insertJob(job.record))
        }
        mutations += out.mutations
        for job in dirtyJobs where job.isDirty {
            prepareStatus(job)
            mutations.append(.updateJob(sequence: job.sequence, job.id, job.status))
        }
        newJobs.removeAll(keepingCapacity: true)
        dirtyJobs.removeAll(keepingCapacity: true)
        var step = Step()
        step.mutations = mutations
        step.actions = out.actions
        out = Step()
        return step
    }

    private func prepareStatus(_ job: LiveJob) {
        job.isDirty = false
        job.status.firstOpenLine = job.fresh.first?.index ?? job.nextLine
        if let since = job.workingSince {
            job.status.workedNanoseconds += time - since
            job.workingSince = time
            job.workStoredAt = time
        }
    }

    // MARK: Small tools

    func store(_ mutation: Mutation) { out.mutations.append(mutation) }
    func act(_ action: Action) { out.actions.append(action) }
    func reply(_ request: RequestID, _ reply: Reply) { act(.reply(request, reply)) }

    func markDirty(_ job: LiveJob) {
        guard !job.isDirty, job.isInserted else { return }
        job.isDirty = true
        dirtyJobs.append(job)
    }

    /// An event that is kept: numbered, stored, published.
    func publish(_ type: String, _ fill: (inout BrokerEvent) -> Void) {
        var event = BrokerEvent(type: type, at: wall)
        fill(&event)
        event.number = nextEventNumber
        nextEventNumber += 1
        store(.appendEvent(event))
        act(.publish(event))
    }

    func newToken() -> Token { Token(high: random.next(), low: random.next()) }

    func addTimer(_ deadline: Int64, _ purpose: Timer.Purpose) {
        nextTimerOrder += 1
        timers.insert(Timer(deadline: deadline, order: nextTimerOrder, purpose: purpose))
    }
}

extension Int {
    var nanosecondsFromMilliseconds: Int64 { Int64(self) * 1_000_000 }
}

/// The one true reason why a job is where it is.
public struct Explanation: Sendable, Equatable {
    public var job: JobID
    public var state: JobState
    /// `DEPENDENCY`, `HELD`, `BACKOFF`, `NO_CREDIT`, …
    public var code: String
    public var message: String
    public var details: [String: DetailValue] = [:]
}

/// A worker as `WORKERS` shows it.
public struct WorkerView: Sendable, Equatable {
    public var instance: String
    public var plugin: String
    public var pluginVersion: String
    public var pid: Int32
    public var kinds: [String]
    public var numerics: String
    /// `ready`, `busy`, `draining`, `silent`.
    public var state: String
    public var held: [TaskID]
    /// Tasks that it could still be sent, per resource class.
    public var credit: [String: Int]
    /// How many of the held ones there are, per resource class.
    public var heldCounts: [String: Int]
    public var residentBytes: Int64
    public var peakBytes: Int64?
    /// Nanoseconds since its last message.
    public var silentNanoseconds: Int64
}
