/// The broker's state machine: jobs, tasks, attempts, workers and artifacts.
///
/// Deterministic: the same events at the same moments with the same random source give the same steps. No I/O, no clock.
/// Not `Sendable`: one thread owns it. The runtime
/// 1. feeds it every event, and `.tick` at `nextDeadline` or after `Limits.tickMilliseconds`;
/// 2. hands each step's mutations to the store, in order, and performs its actions after their commit;
/// 3. when a commit fails, drops what waits and makes a new core by `init(restoring:…)` from the store.
public final class Core {
    public let limits: Limits

    public init(
        restoring snapshot: Snapshot = Snapshot(), limits: Limits = Limits(),
        random: any RandomNumberGenerator, at moment: Moment
    ) {
        self.limits = limits
    }

    /// Takes one event in.
    public func step(_ event: Event, at moment: Moment) -> Step { Step() }

    /// What goes on after a start: splits and windows to ask for again. Called once, first.
    public func resume(at moment: Moment) -> Step { Step() }

    /// When the next `.tick` is due at the latest, on the runtime's monotonic clock in nanoseconds.
    public func nextDeadline() -> Int64 { 0 }

    // MARK: Questions; they change nothing

    /// Whether a result for this attempt would be accepted now: only then is its body worth appending to a segment.
    public func accepts(_ key: AttemptKey) -> Bool { false }

    /// The submission and the attempt's bindings, for a result's paths; nil if the attempt is stale.
    public func assignment(_ key: AttemptKey) -> Assignment? { nil }

    /// A job in memory: every unfinished one, and those that ended lately. Others are in the store.
    public func job(_ id: JobID) -> JobRecord? { nil }

    /// The newest progress of a job, and when it came.
    public func progress(of id: JobID) -> ProgressReport? { nil }

    /// The one thing that this job waits for, or how it ended. Nil if it is not in memory.
    public func explain(_ id: JobID, at moment: Moment) -> Explanation? { nil }

    /// Whether a reference exists now, or will be produced by what the job comes after.
    public func canResolve(_ reference: String, for job: JobID) -> Bool { false }

    /// The artifact that a reference means now.
    public func artifact(_ reference: String) -> ArtifactRecord? { nil }

    /// Artifacts, ordered by name and version, after a key. `prefix`: a name, or `M:` for all adapters of M.
    public func artifacts(type: String?, prefix: String?, after: ArtifactKey?, limit: Int)
        -> [ArtifactRecord]
    { [] }

    public func workers() -> [WorkerView] { [] }

    /// Jobs by state, all that the store knows.
    public var jobCounts: [JobState: Int] { [:] }
    public var isDraining: Bool { false }
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
    public var residentBytes: Int64
    public var peakBytes: Int64?
    /// Nanoseconds since its last message.
    public var silentNanoseconds: Int64
}
