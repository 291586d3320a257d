import Generation
import Kernels
import LinuxSystem
import Transformer

/// How the memory that a worker may take is shared out.
struct WorkerMemory: Sendable {
    /// Packed adapters kept for the next request.
    let adapterBytes: Int
    /// Keys and values of running sequences.
    let cacheBytes: Int

    /// - Parameter limit: What the supervisor grants; nil: half of what the machine has free, at most 8 GiB.
    init(limit: Int?) {
        let available = HostResources.availableMemoryBytes() ?? 4 << 30
        let total = max(256 << 20, limit ?? min(8 << 30, available / 2))
        cacheBytes = total / 4
        adapterBytes = total / 4
    }

    /// No sequence is longer than this, whatever the model's configuration says.
    static let maximumPositions = 32_768

    func generationLimits(for decoder: Decoder) -> GenerationLimits {
        var limits = GenerationLimits()
        limits.cacheBytes = cacheBytes
        limits.positions = min(decoder.config.maximumPositions, Self.maximumPositions)
        return limits
    }

    func makePass(_ decoder: Decoder, _ compute: Compute, _ limits: GenerationLimits) throws
        -> InferencePass
    {
        let positions = limits.positions ?? decoder.config.maximumPositions
        // No more than all sequences at full length can use.
        let useful = limits.sequences * PageAllocator.pages(forPositions: positions)
        let affordable = limits.cacheBytes / InferencePass.pageByteCount(decoder)
        return try InferencePass(
            decoder: decoder, compute: compute, maximumRows: limits.rows,
            maximumLogitRows: limits.sequences,
            maximumPositions: positions, pageCount: max(4, min(useful, affordable)))
    }
}
