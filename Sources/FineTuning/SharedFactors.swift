import Kernels
import LoRA

/// `share_b`: matrices of one layer that read the same input and have equally many outputs train one B together.
///
/// Among q, k and v of a layer those of equal output width share (with grouped-query attention that is k and v). Each keeps
/// its own A. Every one of them holds its own copy in the flat parameters, so that kernels, checkpoints and the written
/// PEFT folder know nothing of it: their gradients are added up before a step, and equal moments give equal steps.
public struct SharedFactors: Sendable, Equatable {
    /// Ranges of equal size in the flat buffers, at least two a group.
    let groups: [[Range<Int>]]

    /// Last parts of the paths that may share.
    static let names: Set<Substring> = ["q_proj", "k_proj", "v_proj"]

    /// Numbers that exist only as copies.
    var copiedCount: Int { groups.reduce(0) { $0 + ($1.count - 1) * $1[0].count } }

    /// - Throws: `FineTuneError.recipe` if nothing could be shared, or if the B to begin with differ.
    init(_ modules: [AdaptedModule], tensors: [TrainedTensor]) throws(FineTuneError) {
        var byKey: [(key: String, modules: [AdaptedModule])] = []
        for module in modules where Self.names.contains(module.plan.module.name) {
            let path = module.plan.module.path
            let parent = path.dropLast(module.plan.module.name.count)
            let key = "\(parent) \(module.plan.module.outputs) \(module.plan.rank)"
            if let index = byKey.firstIndex(where: { $0.key == key }) {
                byKey[index].modules.append(module)
            } else {
                byKey.append((key, [module]))
            }
        }
        var groups: [[Range<Int>]] = []
        for (_, members) in byKey where members.count > 1 {
            let first = members[0]
            for other in members.dropFirst() {
                guard other.b == first.b else {
                    throw FineTuneError(
                        .recipe,
                        "the adapter to go on from has other numbers in \(other.plan.bName) than in "
                            + "\(first.plan.bName): it was trained without share_b",
                        field: "share_b")
                }
                guard other.plan.scaling == first.plan.scaling else {
                    throw FineTuneError(
                        .recipe,
                        "\(other.plan.module.path) and \(first.plan.module.path) have different scalings; "
                            + "leave them out of alpha_pattern",
                        field: "share_b")
                }
            }
            groups.append(
                members.compactMap { member in
                    tensors.first { $0.name == member.plan.bName }?.range
                })
        }
        guard !groups.isEmpty else {
            throw FineTuneError(
                .recipe,
                "no layer has two of q_proj, k_proj and v_proj adapted with equal rank and equal output width, so "
                    + "there is no B to share",
                field: "share_b")
        }
        self.groups = groups
    }

    /// Adds each group's gradients up in the first of it, in order; the others become zero, so that a norm counts them once.
    func gather(_ gradients: Matrix) throws {
        try gradients.withFloats(row: 0) { values in
            for group in groups {
                for other in group.dropFirst() {
                    for offset in 0..<other.count {
                        values[group[0].lowerBound + offset] += values[other.lowerBound + offset]
                        values[other.lowerBound + offset] = 0
                    }
                }
            }
        }
    }

    /// Gives every member of a group the first one's gradient.
    func spread(_ gradients: Matrix) throws {
        try gradients.withFloats(row: 0) { values in
            for group in groups {
                for other in group.dropFirst() {
                    for offset in 0..<other.count {
                        values[other.lowerBound + offset] = values[group[0].lowerBound + offset]
                    }
                }
            }
        }
    }
}
