/// One change to the store. The core makes all but the last group, which are the runtime's own.
public enum Mutation: Sendable, Equatable {
    // Jobs
    case insertJob(JobRecord)
    /// The changing part of a job; of several in one commit only the last counts.
    case updateJob(sequence: Int64, JobID, JobStatus)
    /// With what the job is told of the other one's end, where it asked for that.
    case fulfillDependency(jobSequence: Int64, position: Int, DependencyOutcome?)
    /// The job runs again and waits for this entry once more.
    case reopenDependency(jobSequence: Int64, position: Int)
    /// The job names this reference; with a key: it means this version for this job, for good.
    case bind(jobSequence: Int64, reference: String, ArtifactKey?)
    /// Deletes the job with all that hangs on it, and remembers its id.
    case pruneJob(JobID, at: Int64)

    /// Forgets pruned ids older than this (milliseconds since 1970, by the id itself).
    case forgetTombstones(before: Int64)

    // Batch files
    case insertLineBlocks(jobSequence: Int64, [LineBlock])
    /// Forgets the blocks and bad lines of a split that did not finish.
    case clearSplit(jobSequence: Int64)

    // Tasks
    /// Inserts or replaces.
    case putTask(TaskRecord)
    case deleteTask(TaskID, jobSequence: Int64)
    case insertAttempt(AttemptRecord)
    case insertResult(ResultRecord)

    // Artifacts
    case insertArtifact(ArtifactRecord)
    case deleteArtifact(ArtifactKey)
    /// Nil version: removes the tag.
    case setTag(name: String, tag: String, version: Int?)

    case appendEvent(BrokerEvent)

    // The runtime's own
    case keepLines(KeptLines)
    /// Their files are synced by now.
    case dropLines(upTo: Int64)
    case putBlob(Digest, bytes: Int64, at: Int64)
    case deleteBlob(Digest)
    case putProcess(ProcessRecord)
    case deleteProcess(instance: String)
}

/// Result lines that are written to their file but not synced there: until they are, the commit that claims them holds them too.
public struct KeptLines: Sendable, Equatable {
    /// Grows with each.
    public var number: Int64
    public var job: JobID
    public var segment: Int
    public var offset: Int
    public var bytes: [UInt8]

    public init(number: Int64, job: JobID, segment: Int, offset: Int, bytes: [UInt8]) {
        self.number = number
        self.job = job
        self.segment = segment
        self.offset = offset
        self.bytes = bytes
    }
}
