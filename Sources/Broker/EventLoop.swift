import BrokerCore
import JobStore
import LinuxSystem
import Logging
import WireProtocol
import ZeroMQ

/// The broker's one thread that owns the sockets and the core.
///
/// Each turn: receive what came (bounded), let the core take it in, gather the changes into one
/// batch, hand the batch to the commit pipeline. What is to be sent waits for its batch's commit.
/// Not `Sendable`: other threads reach it by `LoopInbox` only.
final class EventLoop {
    let configuration: BrokerConfiguration
    let home: BrokerHome
    let log: Logger
    let context: Context
    let control: Socket
    let dispatch: Socket
    let results: Socket
    let events: Socket
    let remote: RemoteAccess?
    let inbox: LoopInbox
    let store: DurableJobStore
    let pipeline: CommitPipeline
    let blobs: BlobStore
    /// Uploads, artifacts: work that syncs files.
    let disk: WorkQueue
    /// Results, logs, lines: work that reads files.
    let reader: WorkQueue
    let splitter: WorkQueue
    /// Splits files of at most `smallFileBytes`, so that they do not wait for a great one.
    let smallSplitter: WorkQueue
    static let smallFileBytes = 4 << 20
    /// Reads jobs' files again for `VERIFY`.
    let verifier: WorkQueue
    /// Copies files for `BACKUP`.
    let copier: WorkQueue
    let supervisor: Supervisor
    let startedAt = MonotonicTime.now()

    var poller = Poller()
    var outgoing = OutgoingQueues()
    /// Nil while the store is unavailable.
    var core: Core?
    /// Tells answers to an earlier core's questions from those to this one's.
    var coreGeneration = 0
    /// When to try the store again.
    var retryStoreAt: MonotonicTime?
    var moment: Moment
    var now: MonotonicTime

    /// What is gathered for the next commit.
    var batch = PendingBatch()
    /// Batches handed over and not yet known to be durable, in order.
    var inFlight: [PendingBatch] = []
    var lastBatchNumber: UInt64 = 0
    var segments: SegmentAllocator

    var requests: [RequestID: PendingRequest] = [:]
    var lastRequest: UInt64 = 0
    var peers = PeerTable()
    /// By session token: whose LOG and CHUNK messages these are.
    var sessions: [String: String] = [:]
    /// By instance: the token of its present session.
    var sessionOf: [String: String] = [:]
    /// By peer: the request id of its HELLO, which the WELCOME echoes.
    var helloRequests: [PeerID: String] = [:]
    var lastEvent: Int64 = 0
    /// Plugins of no manifest, as their workers named them in this broker run: a core that is made anew knows them.
    var unlistedPlugins: [String: PluginDescription] = [:]
    var subscriptions = 0
    var splits: [JobID: SplitControl] = [:]
    /// What is read again when it is asked for and not here.
    var splitSummaries: [JobID: SplitSummary] = [:]
    var jobCaches = JobCaches()
    var sinks = SinkTable()
    /// Digests whose folders are being put in place or registered just now.
    var installing: [Digest: Int] = [:]
    var installingKeys: Set<AttemptKey> = []
    var jobLogs = JobLogs()
    /// Blobs that are being removed, and what waits for that.
    var condemned: Set<Digest> = []
    var waitingForRemoval: [(EventLoop) -> Void] = []
    /// The backup that is being made, or was made last. While one is made nothing is removed.
    var backup: BackupControl?
    /// Artifacts that were removed by name during a backup; their folders go after it.
    var removedDuringBackup: [ArtifactRecord] = []

    /// Set by `DRAIN stop`, SIGTERM, …
    var stopPhase = StopPhase.running
    var isFinished = false
    var nextUpkeep: MonotonicTime
    var notedRefused = 0
    var malformed = 0
    var upkeepTurns = 0
    var notedOverflows = 0
    /// By request: the items of a submission that the core answers for.
    var submitOutcomes: [RequestID: [SubmitOutcome]] = [:]

    enum StopPhase {
        case running
        /// Ends once no worker holds anything, or when the time is up.
        case draining(until: MonotonicTime)
        /// Workers are told to end.
        case stopping
    }

    init(
        configuration: BrokerConfiguration, home: BrokerHome, store: DurableJobStore,
        inbox: LoopInbox, log: Logger
    ) throws {
        self.configuration = configuration
        self.home = home
        self.log = log
        self.store = store
        self.inbox = inbox
        now = .now()
        nextUpkeep = now
        moment = Moment(monotonic: Int64(now.nanoseconds), wall: Int64(WallClock.milliseconds()))
        segments = SegmentAllocator(home: home)
        blobs = try BlobStore(directory: home.blobs)
        pipeline = try CommitPipeline(store: store, home: home, inbox: inbox)
        disk = try WorkQueue(name: "disk")
        reader = try WorkQueue(name: "reader")
        splitter = try WorkQueue(name: "splitter")
        smallSplitter = try WorkQueue(name: "small splitter")
        verifier = try WorkQueue(name: "verifier")
        copier = try WorkQueue(name: "copier")
        supervisor = try Supervisor(
            settings: Self.supervisorSettings(configuration, home), log: log)
        context = try Context()
        let options = SocketOptions.with {
            $0.linger = .milliseconds(500)
            $0.sendHighWaterMark = 10_000
            $0.receiveHighWaterMark = 1_000
        }
        control = try Socket(context, .router, options: options)
        dispatch = try Socket(context, .router, options: options)
        results = try Socket(context, .pull, options: options)
        events = try Socket(context, .extendedPublish, options: options)
        try control.bind(home.endpoint("control"))
        try dispatch.bind(home.endpoint("dispatch"))
        try results.bind(home.endpoint("results"))
        try events.bind(home.endpoint("events"))
        // After the ipc endpoints, which stay without CURVE.
        if let address = configuration.listen {
            remote = try RemoteAccess(
                address, keys: BrokerKeys(folder: home.keys), context: context, control: control,
                events: events)
        } else {
            remote = nil
        }
    }

    /// What workers get of the broker's own environment; all else is none of their business.
    private static let passedOn: Set = [
        "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE",
        "LORAQ_ISA", "LORAQ_BROKER_GRACE_MS",
    ]

    private static func supervisorSettings(
        _ configuration: BrokerConfiguration, _ home: BrokerHome
    ) -> Supervisor.Settings {
        let given = configuration.environment
        let searchPath = given["PATH"] ?? "/usr/local/bin:/usr/bin:/bin"
        var environment = given.filter { Self.passedOn.contains($0.key) }
        environment["PATH"] = searchPath
        environment["LORAQ_HOME"] = home.root
        environment["LORAQ_DISPATCH"] = home.endpoint("dispatch")
        environment["LORAQ_RESULTS"] = home.endpoint("results")
        return Supervisor.Settings(
            home: home, programDirectory: configuration.programDirectory,
            environment: environment, searchPath: searchPath,
            nodes: HostResources.numaNodes(), memoryBytes: HostResources.memoryBytes(),
            outOfMemoryKills: { HostResources.outOfMemoryKills() },
            stopGrace: .seconds(configuration.stopGraceSeconds))
    }

    // MARK: Turns

    func run() {
        let slots = (
            poller.add(control, .input), poller.add(dispatch, .input),
            poller.add(results, .input), poller.add(events, .input)
        )
        poller.add(descriptor: inbox.wakeup.descriptor)
        poller.add(descriptor: supervisor.descriptor)
        let questions = addRemote()
        while !isFinished {
            do {
                // What cannot be taken in now is not polled for.
                let interest: PollEvents = hasRoom ? .input : []
                poller.setInterest(interest, of: slots.0)
                poller.setInterest(interest, of: slots.2)
                _ = try poller.wait(atMost: waitTime())
                readClocks()
                for item in inbox.take() { item(self) }
                if poller.events(of: slots.0) != [] { receiveControl() }
                if poller.events(of: slots.1) != [] { receiveDispatch() }
                if poller.events(of: slots.2) != [] { receiveResults() }
                if poller.events(of: slots.3) != [] { receiveSubscriptions() }
                if let questions, poller.events(of: questions) != [] { answerConnections() }
                supervise()
                keepTime()
                flush()
                try retryOutgoing()
                sinks.retry()
            } catch {
                log.critical("the event loop failed: \(error)")
                break
            }
        }
        close()
    }

    private func addRemote() -> Poller.Slot? {
        remote.map { poller.add($0.handler, .input) }
    }

    private func answerConnections() {
        remote?.answer(limit: configuration.messagesPerTurn) { log.info("\($0)") }
    }

    /// Whether more may be taken in: what waits for the disk is bounded.
    private var hasRoom: Bool {
        inFlight.reduce(batch.weight) { $0 + $1.weight } < configuration.maximumInFlight
    }

    func readClocks() {
        now = .now()
        moment = Moment(monotonic: Int64(now.nanoseconds), wall: Int64(WallClock.milliseconds()))
    }

    private func waitTime() -> Duration {
        if !batch.deferred.isEmpty || !batch.changesNothing, inFlight.count < 2 { return .zero }
        var deadline = nextUpkeep
        if let core {
            deadline = min(
                deadline, MonotonicTime(nanoseconds: UInt64(max(0, core.nextDeadline()))))
        }
        if let time = supervisor.nextDeadline { deadline = min(deadline, time) }
        if let retryStoreAt { deadline = min(deadline, retryStoreAt) }
        let current = MonotonicTime.now()
        var wait = deadline > current ? deadline - current : .zero
        // A full ROUTER pipe cannot be polled for; it is tried again soon.
        if !outgoing.isEmpty || sinks.isWaiting { wait = min(wait, .milliseconds(5)) }
        return min(wait, .seconds(1))
    }

    private func keepTime() {
        if let core, MonotonicTime(nanoseconds: UInt64(max(0, core.nextDeadline()))) <= now {
            step(.tick)
        }
        if let retryStoreAt, now >= retryStoreAt { reloadCore() }
        supervisor.tick(now: now)
        if now >= nextUpkeep {
            nextUpkeep = now + .seconds(1)
            upkeep()
        }
        advanceStop()
    }

    func retryOutgoing() throws(ZeroMQError) {
        guard !outgoing.isEmpty else { return }
        try outgoing.retry(.control, over: control)
        try outgoing.retry(.dispatch, over: dispatch)
    }

    // MARK: The core

    /// Lets the core take an event in and gathers what follows.
    func step(_ event: Event) {
        guard let core else { return }
        absorb(core.step(event, at: moment))
    }

    func absorb(_ step: Step) {
        batch.mutations.append(contentsOf: step.mutations)
        for action in step.actions { batch.deferred.append(.action(action)) }
    }

    // MARK: Sending

    func send(_ message: Message, to peer: Peer) {
        do {
            let frames = [peer.routingID] + (try message.frames())
            switch peer.channel {
            case .control: try outgoing.send(frames, to: peer, over: control)
            case .dispatch: try outgoing.send(frames, to: peer, over: dispatch)
            }
        } catch {
            log.error("a \(message.verb) could not be sent: \(error)")
        }
    }

    /// Runs work on another thread, then `next` here.
    func offload<T: Sendable>(
        _ queue: WorkQueue, _ work: @escaping @Sendable () -> T,
        then next: @escaping @Sendable (EventLoop, T) -> Void
    ) {
        queue.add { [inbox] in
            let value = work()
            inbox.post { next($0, value) }
        }
    }
}
