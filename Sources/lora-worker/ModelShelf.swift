import Foundation
import Kernels
import LinuxSystem
import WireProtocol

/// The models in this process, by digest. `@unchecked Sendable` is sound: what changes is guarded by `lock`.
final class ModelShelf: @unchecked Sendable {
    /// Models kept mapped; beyond it the one that was idle longest is put away.
    static let maximumModels = 8

    let pool: ThreadPool
    private let memory: WorkerMemory
    private let lock = NSLock()
    /// Least recently used first.
    private var models: [LoadedModel] = []
    private var loads = 0

    init(pool: ThreadPool, memory: WorkerMemory) {
        self.pool = pool
        self.memory = memory
    }

    /// Models loaded so far.
    var loadCount: Int { lock.withLock { loads } }

    /// The base model that a task names.
    func model(of envelope: TaskEnvelope) throws -> LoadedModel {
        guard let artifact = envelope.artifacts.first(where: { $0.type == .model }) else {
            throw TaskFailure(ErrorObject(.internalError, .internal, "the task names no model"))
        }
        return try model(artifact)
    }

    /// The base model of an artifact.
    func model(_ artifact: TaskEnvelope.Artifact) throws -> LoadedModel {
        if let plugin = artifact.meta?["prepared_by"]?.string {
            throw TaskFailure.user(
                "BAD_MODEL",
                "\(artifact.name.text) was prepared by the plugin \(plugin), for its own use: run it there (--worker \(plugin))"
            )
        }
        guard let digest = ContentDigest(text: artifact.digest.text) else {
            throw TaskFailure(
                ErrorObject(.internalError, .internal, "the model's digest is malformed"))
        }
        return try lock.withLock {
            if let index = models.firstIndex(where: { $0.digest == digest }) {
                let known = models.remove(at: index)
                models.append(known)
                return known
            }
            let loaded = try LoadedModel(
                folder: artifact.path, digest: digest, pool: pool, memory: memory)
            models.append(loaded)
            loads += 1
            if models.count > Self.maximumModels,
                let index = models.dropLast().firstIndex(where: \.isIdle)
            {
                models.remove(at: index).close()
            }
            return loaded
        }
    }

    /// Digests of what is in memory, for the broker's choice of worker: models first, the last used first.
    var loadedDigests: [BlobDigest] {
        let models = lock.withLock { Array(self.models.reversed()) }
        return (models.map(\.digest) + models.flatMap(\.loadedAdapters)).compactMap {
            BlobDigest(text: $0.text)
        }
    }

    func close() { for model in lock.withLock({ models }) { model.close() } }
}
