import BrokerCore

/// The broker's database: one writing connection on its own thread, and one that only reads on another.
///
/// Completions run on the store's threads: hand the value over to your own loop and return at once.
public final class DurableJobStore: Sendable {
    public typealias Completion<Value> = @Sendable (Result<Value, StoreError>) -> Void

    /// Grows by one with each `open`.
    public let epoch: Int64
    public let path: String

    /// Opens or makes the database, brings its schema up to date, and checks that commits are synced.
    ///
    /// - Throws: `.cannotOpen`, `.newerSchema`, `.unsafeSetting`.
    public init(path: String, eventHistory: Int = 100_000) throws(StoreError) {
        self.path = path
        epoch = 0
    }

    /// Applies the mutations in one transaction, after all batches given before. `completion` gets `commit` back once they
    /// are on disk, or the error once nothing of them is. After an error every later batch is refused with `.needsReload`
    /// until `reload` has been called.
    public func apply(
        _ mutations: [Mutation], commit: UInt64,
        completion: @escaping @Sendable (UInt64, StoreError?) -> Void
    ) {}

    /// What a new core starts from; makes the store take commits again. Blocks until commits given before are done.
    public func reload() throws(StoreError) -> Snapshot { Snapshot() }

    /// Finishes the commits given so far, then closes. Blocks.
    public func close() {}

    // MARK: Reading. Each answers from what is committed when it runs.

    /// Jobs by id, for `Event.jobsFound`: those stored, and those of the rest that were pruned.
    public func findJobs(
        _ ids: [JobID], completion: @escaping Completion<(found: [JobRecord], pruned: [JobID])>
    ) {}

    /// Newest first. `after` is the `sequence` of the last job of the page before.
    public func listJobs(
        _ filter: JobFilter, after: Int64?, limit: Int,
        completion: @escaping Completion<[JobRecord]>
    ) {}

    /// Ids that a selector means, newest first: an id, its unique beginning or end, `last`, `all`, a label.
    /// Empty: none. More than one for a beginning or end: it was not unique.
    public func selectJobs(
        _ selector: String, limit: Int, completion: @escaping Completion<[JobID]>
    ) {}

    /// Results after a cursor, at most `limit`.
    public func results(_ query: ResultQuery, completion: @escaping Completion<ResultPage>) {}

    /// Lines of a batch that must still be run, for `Action.loadLines`, and where each lies to within its block.
    public func pendingLines(
        _ request: LineRequest, completion: @escaping Completion<PendingLines>
    ) {}

    /// What is known of a task's ended attempts (`index` nil: of all the job's), oldest first.
    public func attempts(
        job: JobID, index: Int?, limit: Int, completion: @escaping Completion<[AttemptRecord]>
    ) {}

    /// Events after a number, oldest first, of one job or of all, and the oldest number that is kept.
    public func events(
        after: Int64, limit: Int, job: JobID?,
        completion: @escaping Completion<(events: [BrokerEvent], oldest: Int64)>
    ) {}

    /// Ended jobs that ended before `wall` (milliseconds since 1970), oldest first, for `Event.prune`.
    public func prunableJobs(
        endedBefore wall: Int64, limit: Int, completion: @escaping Completion<[JobID]>
    ) {}

    /// Blobs that no job refers to, stored before `wall`.
    public func unreferencedBlobs(
        storedBefore wall: Int64, limit: Int, completion: @escaping Completion<[Digest]>
    ) {}

    /// The size of a stored blob; nil: not there.
    public func blobBytes(_ digest: Digest, completion: @escaping Completion<Int64?>) {}

    /// Processes that the broker before had started. Blocks.
    public func processes() throws(StoreError) -> [ProcessRecord] { [] }
}

/// Which jobs `listJobs` lists; nil: any.
public struct JobFilter: Sendable, Equatable {
    public var state: JobState?
    public var kind: String?
    public var tenant: String?
    public var label: String?

    public init() {}
}

/// A question for accepted results.
public struct ResultQuery: Sendable, Equatable {
    public enum Stream: Sendable { case results, errors, all }
    public enum Order: Sendable { case completion, input }

    public var job: JobID
    public var stream: Stream
    public var order: Order
    /// `next` of the page before; 0: from the beginning.
    public var after: Int64
    public var limit: Int

    public init(job: JobID, stream: Stream, order: Order, after: Int64 = 0, limit: Int) {
        self.job = job
        self.stream = stream
        self.order = order
        self.after = after
        self.limit = limit
    }
}

/// A page of results. In input order it ends before the first line that has not ended, while the job runs.
public struct ResultPage: Sendable, Equatable {
    public var results: [ResultRecord] = []
    public var next: Int64 = 0
    /// Nothing will follow: the job has ended and this page reaches its end.
    public var isComplete = false
}

/// Lines to be run again or for the first time.
public struct PendingLines: Sendable, Equatable {
    public var lines: [PendingLine] = []
    /// Where to go on; the file's line count when there is nothing more.
    public var next = 0
    /// The blocks that these lines lie in.
    public var blocks: [LineBlock] = []
}

public struct PendingLine: Sendable, Equatable {
    public var index: Int
    /// Attempts that earlier generations began.
    public var previousAttempts: Int
}
