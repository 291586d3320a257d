/// Everything that can happen to the core. The runtime makes these from messages, process exits, the splitter and the clock.
public enum Event: Sendable {
    // MARK: Control

    /// One `SUBMIT` or a whole `SUBMIT_BATCH`; answered by one `Reply.submitted` with an entry per submission, in order.
    case submit([Submission], request: RequestID)
    /// The store's answer to `Action.lookUpJobs`.
    case jobsFound(lookup: Int64, found: [JobRecord], pruned: [JobID])
    case cancel([JobID], reason: String?, request: RequestID)
    case hold([JobID], request: RequestID)
    case release([JobID], request: RequestID)
    case retry(JobID, scope: RetryScope, anyNumerics: Bool, request: RequestID)
    case tag(reference: String, tag: String, remove: Bool, request: RequestID)
    case removeArtifact(reference: String, force: Bool, request: RequestID)
    /// Nil: the whole broker; then nothing is dispatched any more and submissions are refused with `DRAINING`.
    case drain(worker: String?, request: RequestID)
    /// Ended jobs past their retention; those that are still needed stay.
    /// Tombstones of jobs with ids older than `tombstonesBefore` (milliseconds since 1970) are forgotten; such ids are `GONE` for good.
    case prune([EndedJob], tombstonesBefore: Int64)

    // MARK: Batch files

    /// A further part of a batch file: offsets of blocks, and the lines that cannot be run.
    /// `references`: artifact references that were not in an earlier part.
    case splitPart(
        JobID, blocks: [LineBlock], badLines: [BadLine], references: [String])
    /// The file's end. `lines` counts all lines that are not blank, the bad ones too.
    case splitFinished(JobID, lines: Int)
    /// The file cannot be read, or is refused as a whole.
    case splitFailed(JobID, BrokerError)
    /// The answer to `Action.loadLines`, in the order of the lines; may hold fewer than asked for.
    case linesLoaded(LineRequest, [LoadedLine], next: Int)
    /// The lines could not be read (blob gone, disk error): the job fails.
    case loadFailed(LineRequest, BrokerError)

    // MARK: Workers

    case plugins([PluginDescription])
    case workerHello(WorkerHello)
    /// Cumulative totals since `HELLO`, per resource class.
    case workerCredit(peer: PeerID, session: Token, classes: [String: Int])
    case workerBeat(WorkerBeat)
    case workerDefer(
        peer: PeerID, session: Token, tasks: [AttemptKey], reason: String,
        retryAfterMilliseconds: Int)
    case workerBye(peer: PeerID, session: Token)
    case results([AttemptResult])
    case progress(ProgressReport)

    // MARK: Supervisor and clock

    case workerStarted(instance: String, plugin: String, pid: Int32)
    case workerExited(ProcessExit)
    /// The broker is up, its sockets are open.
    case brokerStarted(version: String)
    /// Nothing happened; time went on.
    case tick
}

/// Where a block of lines begins in its blob: one per 1,000 lines that are not blank.
public struct LineBlock: Sendable, Equatable {
    /// Index of its first line.
    public var firstIndex: Int
    /// Byte offset of that line.
    public var offset: Int64
    /// Its line number in the file, from 1.
    public var firstNumber: Int64
    /// Lines in the block.
    public var count: Int

    public init(firstIndex: Int, offset: Int64, firstNumber: Int64, count: Int) {
        self.firstIndex = firstIndex
        self.offset = offset
        self.firstNumber = firstNumber
        self.count = count
    }
}

/// A line that cannot be run: it ends at once, as an error with its line number.
public struct BadLine: Sendable, Equatable {
    public var index: Int
    /// Line number in the file, from 1.
    public var number: Int64
    public var customID: String?
    public var error: BrokerError

    public init(index: Int, number: Int64, customID: String?, error: BrokerError) {
        self.index = index
        self.number = number
        self.customID = customID
        self.error = error
    }
}

/// Asks for a batch's next lines: up to `limit` of those from index `from` on that have not ended in `generation`
/// and, where `scope` is `.failed`, have not succeeded in any (`JobStore.pendingLines` finds them).
public struct LineRequest: Sendable, Equatable, Hashable {
    public var job: JobID
    public var jobSequence: Int64
    public var blob: Digest
    public var generation: Int
    public var scope: RetryScope
    /// With `.failed`: lines that succeeded in this generation or a later one are not run again.
    public var since: Int
    public var from: Int
    public var limit: Int
    /// Lines of the whole file.
    public var total: Int

    public init(
        job: JobID, jobSequence: Int64, blob: Digest, generation: Int, scope: RetryScope,
        since: Int = 1, from: Int, limit: Int, total: Int
    ) {
        self.job = job
        self.jobSequence = jobSequence
        self.blob = blob
        self.generation = generation
        self.scope = scope
        self.since = since
        self.from = from
        self.limit = limit
        self.total = total
    }
}

/// A line that is ready to become a task.
public struct LoadedLine: Sendable, Equatable {
    public var index: Int
    public var customID: String?
    public var location: LineLocation
    /// Artifact references of the line, as written (or the job's default): `M:A@3` alone, without `M`.
    public var references: [String]
    public var cost: Double
    /// Attempts that earlier generations began (`JobStore.pendingLines` knows).
    public var previousAttempts: Int

    public init(
        index: Int, customID: String?, location: LineLocation, references: [String],
        cost: Double = 1, previousAttempts: Int = 0
    ) {
        self.index = index
        self.customID = customID
        self.location = location
        self.references = references
        self.cost = cost
        self.previousAttempts = previousAttempts
    }
}

/// A job that has ended, and how: the core may not have it in memory any more.
public struct EndedJob: Sendable, Equatable {
    public var id: JobID
    public var state: JobState

    public init(id: JobID, state: JobState) {
        self.id = id
        self.state = state
    }
}
