import ArgumentParser
import Foundation
import Kernels
import LinuxSystem
import WireProtocol
import WorkerRuntime

/// The worker that loraqd starts.
struct ServeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Serves tasks of a broker; started by loraqd.",
        discussion: """
            Takes its broker, its name and its share of the machine from the environment that docs/protocol.md lists \
            (LORAQ_DISPATCH, LORAQ_RESULTS, LORAQ_INSTANCE, LORAQ_PLUGIN, LORAQ_THREADS, LORAQ_CPUS, LORAQ_MEMORY_BYTES). \
            LORAQ_ISA forces an instruction set: avx512bf16, avx512, avx2, portable.
            """)

    /// Requests held at once: those that run and those that wait to join.
    static let sequences = 96
    static let jobs = 1

    func run() throws {
        // Threads inherit what their maker blocks and may run on, so both come before any is made.
        StopSignals.block()
        let environment = ProcessInfo.processInfo.environment
        try Failpoint.arm(environment[Failpoint.variable])
        let kinds = ["infer", "finetune", "prepare", "adapter", "check", "evaluate", "choose"]
            .compactMap(
                WireName.init(text:))
        guard let sequence = WireName(text: "sequence"), let job = WireName(text: "job") else {
            return
        }
        var configuration = try WorkerConfiguration(
            environment: environment, pluginVersion: EngineNumerics.version, kinds: kinds,
            numerics: "",
            capacity: [sequence: Self.sequences, job: Self.jobs])
        if let cpus = configuration.cpus { SystemThread.setAffinity(cpus) }
        let threads = configuration.threads ?? HostResources.usableCPUs().count
        configuration.threads = threads
        let pool = try ThreadPool(threads: max(1, threads))
        let compute = try Compute(pool: pool)
        configuration.numerics = EngineNumerics.name(compute)
        let shelf = ModelShelf(pool: pool, memory: WorkerMemory(limit: configuration.memoryBytes))
        let handler = try EngineHandler(shelf: shelf, numerics: configuration.numerics)
        let worker = try PluginWorker(configuration, handler: handler)
        try worker.stopOnSignals()
        handler.announce = { worker.setLoaded(shelf.loadedDigests) }
        FileHandle.standardError.write(
            Data(
                "lora-worker \(EngineNumerics.version): \(configuration.numerics), \(threads) threads\n"
                    .utf8))
        try worker.run()
        handler.close()
    }
}

/// SIGTERM and SIGINT, which `PluginWorker.stopOnSignals` waits for on a thread of its own.
enum StopSignals {
    static func block() {
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGTERM)
        sigaddset(&signals, SIGINT)
        pthread_sigmask(SIG_BLOCK, &signals, nil)
    }
}

/// Sends each task to its kind. `@unchecked Sendable` is sound: `announce` is set once, before the worker runs.
final class EngineHandler: TaskHandler, @unchecked Sendable {
    var announce: @Sendable () -> Void = {}
    private let shelf: ModelShelf
    private let numerics: String
    private var requests: InferKind?

    init(shelf: ModelShelf, numerics: String) throws {
        self.shelf = shelf
        self.numerics = numerics
        requests = try InferKind(shelf: shelf, numerics: numerics) { [weak self] in self?.announce()
        }
    }

    func accept(_ task: WorkerTask) {
        let context = JobContext(task: task, shelf: shelf, numerics: numerics)
        switch BuiltInKind(rawValue: task.envelope.kind.text) {
        case .infer: requests?.accept(task)
        case .prepare: JobRunner.start(context, PrepareKind.run)
        case .adapter: JobRunner.start(context, AdapterKind.run)
        case .finetune: JobRunner.start(context, FinetuneKind.run)
        case .check: JobRunner.start(context, CheckKind.run)
        case .evaluate: JobRunner.start(context, EvaluateKind.run)
        case .choose: JobRunner.start(context, ChooseKind.run)
        case nil:
            task.fail(
                ErrorObject(
                    .unknownKind, .user,
                    "this worker does not serve the kind \(task.envelope.kind.text)"))
        }
    }

    func close() {
        requests?.close()
        shelf.close()
    }
}
