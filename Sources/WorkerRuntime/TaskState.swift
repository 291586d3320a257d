import Synchronization
import WireProtocol

/// What the runtime and the plugin both know of one attempt.
final class TaskState: Sendable {
    let envelope: TaskEnvelope
    let line: [UInt8]?
    private let counter = Atomic<Int>(0)
    private let hasEnd = Atomic<Bool>(false)
    private let stop = Mutex(Stop())

    private struct Stop {
        var reason: StopReason?
        var action: (@Sendable (StopReason) -> Void)?
    }

    init(envelope: TaskEnvelope, line: [UInt8]?) {
        self.envelope = envelope
        self.line = line
    }

    var reference: AttemptReference { envelope.reference }

    var progress: Int { counter.load(ordering: .relaxed) }
    func advance(by amount: Int) { counter.add(max(0, amount), ordering: .relaxed) }

    /// True for the first caller only: a task ends once.
    func claimEnd() -> Bool {
        hasEnd.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing)
            .exchanged
    }

    var isEnded: Bool { hasEnd.load(ordering: .acquiring) }
    var stopReason: StopReason? { stop.withLock { $0.reason } }

    /// Sets the reason if it is stronger than the one before.
    ///
    /// - Returns: The action to be called with it, if there is one.
    func requestStop(_ reason: StopReason) -> (@Sendable (StopReason) -> Void)? {
        stop.withLock { stop in
            guard stop.reason.map({ $0 < reason }) ?? true else { return nil }
            stop.reason = reason
            return stop.action
        }
    }

    func onStop(_ action: @escaping @Sendable (StopReason) -> Void) {
        let reason = stop.withLock { stop -> StopReason? in
            stop.action = action
            return stop.reason
        }
        if let reason { action(reason) }
    }
}

/// How a plugin ended a task.
struct TaskEnd: Sendable {
    var outcome: TaskOutcome
    var body: [UInt8]?
    var error: ErrorObject?
    var usage: [String: Double]?
    var metrics: [String: Double]?
    var artifacts: [TaskResult.Artifact]?

    init(
        _ outcome: TaskOutcome, body: [UInt8]? = nil, error: ErrorObject? = nil,
        usage: [String: Double]? = nil, metrics: [String: Double]? = nil,
        artifacts: [TaskResult.Artifact]? = nil
    ) {
        self.outcome = outcome
        self.body = body
        self.error = error
        self.usage = usage
        self.metrics = metrics
        self.artifacts = artifacts
    }
}
