import JSONModel
import WireProtocol

/// What a plugin does with its tasks.
///
/// A plugin in a few lines; each task may as well be finished later, by any thread, in any order:
///
/// ```swift
/// struct WordCount: TaskHandler {
///     func accept(_ task: WorkerTask) {
///         let text = task.request?["text"]?.string ?? ""
///         task.succeed(["words": .integer(Int64(text.split(separator: " ").count))])
///     }
/// }
///
/// let configuration = try WorkerConfiguration(
///     environment: ProcessInfo.processInfo.environment, pluginVersion: "1.0",
///     kinds: [kind], numerics: "none", capacity: [resourceClass: 64])
/// try PluginWorker(configuration, handler: WordCount()).run()
/// ```
public protocol TaskHandler: Sendable {
    /// Takes a task over.
    ///
    /// Called on one thread of the runtime's, in the order in which tasks came. That thread does
    /// not carry heartbeats, but while it is busy no other task and no stop comes through: put the
    /// task into your own queue, or start a thread for it, and return.
    ///
    /// Every task must be ended by one of the methods of `WorkerTask`. One that is let go of
    /// without having been ended is reported as failed, retryable.
    func accept(_ task: WorkerTask)

    /// The broker said `DRAIN`, or the process got SIGTERM: no new task follows.
    func drain()
}

extension TaskHandler {
    public func drain() {}
}

/// Why a running task should end.
public enum StopReason: Int, Sendable, Comparable {
    /// Save what is needed to go on, and call `giveWay()`.
    case preempted = 1
    /// End at the next boundary, and call `endCancelled()`.
    case cancelled
    /// The attempt is not this worker's any more: stop at once; whatever is reported is thrown away.
    case dropped

    public static func < (left: StopReason, right: StopReason) -> Bool {
        left.rawValue < right.rawValue
    }
}

/// One attempt at a task in the hands of a plugin. Every method may be called by any thread.
public final class WorkerTask: Sendable {
    let state: TaskState
    private let mailbox: Mailbox

    init(state: TaskState, mailbox: Mailbox) {
        self.state = state
        self.mailbox = mailbox
    }

    deinit {
        guard state.claimEnd() else { return }
        let error = ErrorObject(
            .internalError, .retryable, "the plugin let go of the task without ending it")
        mailbox.post(.ended(state, TaskEnd(.error, error: error)))
    }

    /// All that the broker said of the task.
    public var envelope: TaskEnvelope { state.envelope }
    /// The request line of a task that is a line; nil for others.
    public var line: [UInt8]? { state.line }
    /// The request line as JSON, read anew at each call; nil when there is none or it is not JSON.
    public var request: JSONValue? {
        guard let line = state.line else { return nil }
        return try? JSONValue.parse(line)
    }

    // MARK: Being stopped

    /// Nil while the task may go on. The strongest reason so far.
    public var stopReason: StopReason? { state.stopReason }
    public var isCancelled: Bool { (state.stopReason ?? .preempted) >= .cancelled }

    /// Has `action` called when the task should stop: at once if that is so already, otherwise by
    /// the thread that calls `accept`. A stronger reason later calls it again.
    public func onStop(_ action: @escaping @Sendable (StopReason) -> Void) {
        state.onStop(action)
    }

    // MARK: Headway

    /// Moves the progress counter on: a task whose counter stands still for longer than its kind's
    /// `stall_ms` is taken for hung. Cheap enough for every token.
    public func advance(by amount: Int = 1) { state.advance(by: amount) }

    /// Reports to people. Counted as headway; of reports in quick succession the newest is sent.
    public func report(
        done: Double? = nil, total: Double? = nil, unit: String? = nil,
        metrics: [String: Double]? = nil, message: String? = nil
    ) {
        state.advance(by: 1)
        let finite = metrics?.filter { $0.value.isFinite }
        mailbox.post(
            .progress(
                state,
                ProgressObject(
                    counter: state.progress, done: done, total: total, unit: unit, metrics: finite,
                    message: message)))
    }

    /// Streams text that was generated; it reaches only those who listen now.
    public func chunk(_ text: String, tokenIndex: Int, choice: Int = 0) {
        mailbox.post(.chunk(state, text: text, tokenIndex: tokenIndex, choice: choice))
    }

    public func log(_ level: LogHeader.Level, _ message: String) {
        mailbox.post(.log(level, message, envelope.task))
    }

    // MARK: Ending

    /// Ends the task with its result object, or with the output line of a line task in full.
    public func succeed(
        _ result: JSONValue, usage: [String: Double]? = nil, metrics: [String: Double]? = nil,
        artifacts: [TaskResult.Artifact]? = nil
    ) {
        end(
            TaskEnd(
                .ok, body: result.serialized(), usage: usage,
                metrics: metrics?.filter { $0.value.isFinite }, artifacts: artifacts))
    }

    /// Ends a line task with OpenAI's output line around the body of a response.
    public func succeed(
        response: JSONValue, usage: [String: Double]? = nil, metrics: [String: Double]? = nil
    ) {
        guard let line = outputLine(response) else {
            return fail(ErrorObject(.internalError, .internal, "the answer has no JSON form"))
        }
        succeed(line, usage: usage, metrics: metrics)
    }

    private func outputLine(_ response: JSONValue) -> JSONValue? {
        let line = OutputLine(
            task: envelope.task, customID: envelope.customID,
            response: OutputLine.Response(requestID: envelope.task.text, body: response))
        return try? WireEncoder.encode(line)
    }

    /// Ends the task with an error: class `user` is final, `retryable` is tried again. For a line
    /// task the error line is made from it.
    ///
    /// - Parameter param: The field at fault, such as `body.temperature`.
    public func fail(_ error: ErrorObject, param: String? = nil, usage: [String: Double]? = nil) {
        var body: [UInt8]?
        if envelope.body != nil {
            let line = OutputLine(
                task: envelope.task, customID: envelope.customID,
                error: OutputLine.Failure(
                    code: error.code, message: error.message, line: envelope.line, param: param))
            body = try? line.serialized()
        }
        end(TaskEnd(.error, body: body, error: error, usage: usage))
    }

    /// Ends the attempt after a preemption: the state to go on from is saved in `workdir`.
    public func giveWay() { end(TaskEnd(.preempted)) }

    /// Ends the task after a cancel. What was produced stays, if it is given here: the result object, or the body of a
    /// line task's response.
    public func endCancelled(partial: JSONValue? = nil, usage: [String: Double]? = nil) {
        let body = envelope.body == nil ? partial : partial.flatMap(outputLine)
        end(TaskEnd(.cancelled, body: body?.serialized(), usage: usage))
    }

    /// Gives the task back unrun; costs no attempt. The broker may send it elsewhere at once, and
    /// here after `retryAfter`.
    public func putBack(reason: String, retryAfter: Duration) {
        guard state.claimEnd() else { return }
        mailbox.post(.putBack(state, reason: reason, retryAfter: retryAfter))
    }

    private func end(_ end: TaskEnd) {
        guard state.claimEnd() else { return }
        mailbox.post(.ended(state, end))
    }
}
