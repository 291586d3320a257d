import WireProtocol

/// How many instances of a plugin run whose manifest leaves it open.
struct InstanceCount: Sendable {
    /// Usable cores by NUMA node.
    var nodes: [[Int]]
    /// Bytes of memory of the machine; nil: not known.
    var memoryBytes: Int?

    /// One per NUMA node, so that none reads its weights across nodes. Two on a single node of two or more cores, if the
    /// plugin has several resource classes: else a fine-tune and a batch would take turns. Never more than fit the memory
    /// that an instance states.
    func standard(for manifest: WorkerManifest) -> Int {
        let cores = nodes.reduce(0) { $0 + $1.count }
        let classes = Set(manifest.kinds.map(\.class))
        var count = max(1, nodes.count)
        if count == 1, classes.count > 1, cores >= 2, cores >= 2 * (manifest.threads ?? 1) {
            count = 2
        }
        if let each = manifest.memoryBytes, let memoryBytes {
            count = min(count, max(1, memoryBytes / each))
        }
        return min(count, WorkerManifest.instanceRange.upperBound)
    }
}
