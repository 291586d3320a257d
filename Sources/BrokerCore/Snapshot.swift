/// What the core needs to go on after a broker start or a failed commit. Its size follows the unfinished work, not the history.
public struct Snapshot: Sendable, Equatable {
    /// Jobs that have not ended, by sequence.
    public var jobs: [JobRecord] = []
    /// Tasks of these jobs that have been given out at least once and have not ended.
    public var tasks: [TaskRecord] = []
    public var artifacts: [ArtifactRecord] = []
    /// The highest version that each name ever had.
    public var artifactVersions: [String: Int] = [:]
    /// Ended jobs by state.
    public var endedJobs: [JobState: Int] = [:]
    /// The greatest id among ended and pruned jobs; submissions above it need no look-up.
    public var greatestEndedJob: JobID?
    /// Ids of a time before this (milliseconds since 1970) are `GONE`: tombstones are kept only from here on.
    public var tombstonesSince: Int64 = 0
    public var nextJobSequence: Int64 = 1
    public var nextEventNumber: Int64 = 1

    public init() {}
}
