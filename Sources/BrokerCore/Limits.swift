/// How often, and how fast, failures of one class are tried again.
public struct RetryPolicy: Sendable, Equatable {
    /// Failures of this class after which the task is given up.
    public var budget: Int
    /// Wait before the first new try, in milliseconds; it doubles each time. 0: at once.
    public var baseMilliseconds: Int
    /// The wait never grows past this, in milliseconds.
    public var maximumMilliseconds: Int

    public init(budget: Int, baseMilliseconds: Int, maximumMilliseconds: Int) {
        self.budget = budget
        self.baseMilliseconds = baseMilliseconds
        self.maximumMilliseconds = maximumMilliseconds
    }
}

/// Every limit of the core, each with its default. Nothing in the core grows past one of these.
public struct Limits: Sendable, Equatable {
    // Submissions
    /// Jobs that have not ended.
    public var unfinishedJobs = 200_000
    /// Bytes of all specs of jobs that have not ended.
    public var specBytesTotal = 512 << 20
    /// Bytes of one spec.
    public var specBytes = 64 << 10
    public var inputsPerJob = 16
    public var dependenciesPerJob = 256
    /// Entries of `after` whose end a task is told, and metrics of each: they must fit one message.
    public var toldPerJob = 64
    public var toldMetrics = 16
    public var submissionsPerMessage = 1_000
    public var selectorsPerMessage = 10_000
    /// Requests that wait for the store to look up older jobs.
    public var parkedRequests = 10_000
    /// Distinct tenants with unfinished jobs.
    public var tenants = 1_000
    /// Bytes of a tenant's name, a label, a kind.
    public var nameBytes = 200
    /// Distinct artifact references of one job.
    public var referencesPerJob = 10_000
    public var priorityRange = -100...100

    // Memory
    /// Tasks of one batch that the core holds at a time.
    public var window = 8_000
    /// Lines asked for in one `Action.loadLines`.
    public var linesPerPiece = 1_000
    /// Batches at the front of one queue whose lines may be loaded ahead.
    public var loadingJobsPerQueue = 64
    /// Ended jobs that stay in memory; older ones are looked up in the store.
    public var endedJobsKept = 10_000
    /// Versions of models and adapters, with those that unfinished jobs will make.
    public var artifacts = 200_000
    /// Events kept for `EVENTS after`.
    public var eventHistory = 100_000
    /// Bytes of a worker's last log lines kept as evidence of one attempt.
    public var evidenceBytes = 4_096

    // Dispatch
    /// How far into a queue a warm worker may reach past its head.
    public var reorderWindow = 64
    /// How often the head of a queue may be passed over for affinity's sake.
    public var maximumSkips = 64
    /// One dispatch of this many goes to the oldest job, whatever its priority: it bounds every wait.
    public var oldestFirstEvery = 16
    /// Batches of more lines are bulk: of one tenant's lines at one priority every other one is of a small batch, as long
    /// as both wait.
    public var bulkLines = 1_000
    /// A waiting job of one task whose priority exceeds a running one's of the same resource class by this much preempts
    /// it: the running one gives way at its next checkpoint, free, and goes on later. Nil: never.
    public var preemptionGap: Int? = 50
    /// Bytes that jobs with a stated memory need may use together; nil: no bound.
    public var memoryBudget: Int?
    public var workers = 1_024
    public var heldPerWorker = 100_000

    // Time, in milliseconds
    public var heartbeatMilliseconds = 1_000
    public var leaseMilliseconds = 10_000
    /// After a broker start: how long leased attempts wait for their worker to come back.
    public var graceMilliseconds = 30_000
    /// How long a worker may take to give up a cancelled attempt on which nothing moves.
    public var cancelGraceMilliseconds = 20_000
    public var numericsUnavailableMilliseconds = 600_000
    /// A gap between two steps longer than this is nobody's silence: every deadline moves by it.
    public var gapMilliseconds = 3_000
    /// The runtime steps at least this often, with `.tick` when nothing else happens.
    public var tickMilliseconds = 1_000
    /// The longest `retry_after_ms` that a `DEFER` may ask for.
    public var maximumDeferMilliseconds = 600_000

    // Retries by failure class
    public var crash = RetryPolicy(
        budget: 3, baseMilliseconds: 500, maximumMilliseconds: 60_000)
    public var lost = RetryPolicy(
        budget: 5, baseMilliseconds: 500, maximumMilliseconds: 60_000)
    public var timeout = RetryPolicy(
        budget: 2, baseMilliseconds: 1_000, maximumMilliseconds: 60_000)
    public var retryable = RetryPolicy(
        budget: 5, baseMilliseconds: 1_000, maximumMilliseconds: 120_000)
    public var preempted = RetryPolicy(
        budget: 10_000, baseMilliseconds: 0, maximumMilliseconds: 0)
    /// Deaths in company after which a task becomes a suspect and runs alone: lines, and jobs of one task.
    public var sharedDeathsOfLines = 1
    public var sharedDeathsOfSingles = 2

    public init() {}
}
