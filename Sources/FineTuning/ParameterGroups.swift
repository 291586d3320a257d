/// Parts of the flat parameters that take steps of their own size: LoRA+ (Hayou et al. 2024, arXiv 2402.12354), grouped as
/// PEFT's `create_loraplus_optimizer` groups.
struct ParameterGroups: Equatable {
    enum Group: Equatable {
        /// A, and everything that is not below: the schedule's rate.
        case base
        /// B and vectors: the schedule's rate times `loraplus_lr_ratio`.
        case ratio
        /// Both factors of an embedding: `loraplus_lr_embedding`, following the schedule.
        case embedding
    }

    struct Part: Equatable {
        var range: Range<Int>
        var group: Group
        /// Vectors named as biases have no weight decay.
        var decays: Bool
    }

    /// Ascending, together all numbers of the tensors.
    let parts: [Part]

    /// - Parameter tensors: As PEFT names them.
    init(_ tensors: [TrainedTensor]) {
        parts = tensors.sorted { $0.range.lowerBound < $1.range.lowerBound }.map {
            Part(
                range: $0.range, group: Self.group($0),
                decays: !($0.shape.count == 1 && $0.name.contains("bias")))
        }
    }

    static func group(_ tensor: TrainedTensor) -> Group {
        if tensor.name.contains("lora_embedding_") { return .embedding }
        return tensor.name.contains("lora_B") || tensor.shape.count == 1 ? .ratio : .base
    }
}
