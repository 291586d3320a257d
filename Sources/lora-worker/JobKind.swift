import JSONModel
import LinuxSystem
import WireProtocol
import WorkerRuntime

/// What a kind of one task gives back.
struct JobOutcome {
    /// The result object.
    var result: JSONValue
    var usage: [String: Double]?
    /// What `after … if` reads.
    var metrics: [String: Double]?
    var artifacts: [TaskResult.Artifact]?
}

/// Why work ended before its end.
enum JobStopped: Error {
    case preempted
    case cancelled
}

/// One running task of class `job`, as a kind's work sees it.
struct JobContext: Sendable {
    let task: WorkerTask
    let shelf: ModelShelf
    let numerics: String

    var envelope: TaskEnvelope { task.envelope }

    /// The folder that is kept between attempts.
    func workdir() throws -> String {
        guard let path = envelope.workdir else {
            throw TaskFailure(ErrorObject(.internalError, .internal, "the task has no work folder"))
        }
        return path
    }

    func input(_ name: String) throws -> String {
        guard let input = envelope.inputs.first(where: { $0.name.text == name }) else {
            throw TaskFailure.user(.invalidSpec, "the input `\(name)` is missing")
        }
        return input.path
    }

    func inputIfAny(_ name: String) -> String? {
        envelope.inputs.first { $0.name.text == name }?.path
    }

    func spec() throws -> BuiltInSpec {
        guard let kind = BuiltInKind(rawValue: envelope.kind.text) else {
            throw TaskFailure(
                ErrorObject(.unknownKind, .user, "\(envelope.kind.text) is not served here"))
        }
        return try BuiltInSpec(kind: kind, spec: envelope.spec)
    }

    /// How the person who submitted the job calls what lies in the broker's folders.
    var names: [(path: String, name: String)] {
        var names = envelope.inputs.map { (path: $0.path, name: $0.name.text) }
        names += envelope.artifacts.map { (path: $0.path, name: "\($0.name.text)@\($0.version)") }
        if let workdir = envelope.workdir, case .adapter(.register(let spec))? = try? spec() {
            names.append((path: AdapterKind.copyFolder(in: workdir), name: spec.path))
        }
        return names
    }

    /// Ends the work when the broker wants it ended.
    func checkStop() throws(JobStopped) {
        switch task.stopReason {
        case nil: return
        case .preempted: throw .preempted
        case .cancelled, .dropped: throw .cancelled
        }
    }
}

/// Runs tasks of class `job`, each on a thread of its own.
enum JobRunner {
    typealias Work = @Sendable (JobContext) throws -> JobOutcome

    static func start(_ context: JobContext, _ work: @escaping Work) {
        do {
            _ = try SystemThread(name: "job-\(context.envelope.kind.text)") { run(context, work) }
        } catch {
            context.task.fail(TaskFailure(sorting: error).error)
        }
    }

    private static func run(_ context: JobContext, _ work: Work) {
        let task = context.task
        do {
            try context.checkStop()
            let outcome = try work(context)
            task.succeed(
                outcome.result, usage: outcome.usage, metrics: outcome.metrics,
                artifacts: outcome.artifacts)
        } catch JobStopped.preempted {
            task.giveWay()
        } catch JobStopped.cancelled {
            task.endCancelled()
        } catch {
            let failure = TaskFailure(sorting: error)
            task.log(
                .error, "\(context.envelope.kind.text) \(context.envelope.task.text): \(failure)")
            task.fail(failure.calling(context.names).error)
        }
    }
}
