/// A tensor that the architecture has, with the shape that the configuration gives it.
public struct ExpectedTensor: Sendable, Equatable {
    public enum Role: Sendable, Equatable {
        case embedding
        /// The output matrix; absent where it is tied to the embedding.
        case head
        /// A matrix that multiplies activations, `[out, in]`.
        case projection
        /// A norm weight or a bias.
        case vector
    }

    public let name: String
    public let shape: [Int]
    public let role: Role
}

extension ModelConfig {
    /// Every tensor of a model with this configuration, by its Hugging Face name, in order of use.
    ///
    /// Matrices are `[out, in]`, as `CheckpointSource` gives them whatever the file holds.
    public var expectedTensors: [ExpectedTensor] {
        var result: [ExpectedTensor] = [
            ExpectedTensor(
                name: embeddingPath + ".weight", shape: [vocabularySize, hiddenSize],
                role: .embedding)
        ]
        if learnedPositions {
            result.append(
                ExpectedTensor(
                    name: positionPath + ".weight", shape: [maximumPositions, hiddenSize],
                    role: .embedding))
        }
        for layer in 0..<layerCount { result += layerTensors(layer) }
        result += normTensors(finalNormPath)
        if !tiedEmbeddings {
            result.append(
                ExpectedTensor(
                    name: headPath + ".weight", shape: [vocabularySize, hiddenSize], role: .head))
        }
        return result
    }

    private func normTensors(_ path: String?) -> [ExpectedTensor] {
        guard let path else { return [] }
        return ["weight", "bias"].prefix(norm == .layer ? 2 : 1).map {
            ExpectedTensor(name: "\(path).\($0)", shape: [hiddenSize], role: .vector)
        }
    }

    private func layerTensors(_ layer: Int) -> [ExpectedTensor] {
        func projections(_ product: LayerProduct) -> [ExpectedTensor] {
            self.projections(layer, product).flatMap { projection in
                let weight = ExpectedTensor(
                    name: projection.path + ".weight",
                    shape: [projection.outputs, projection.inputs],
                    role: .projection)
                let bias = ExpectedTensor(
                    name: projection.path + ".bias", shape: [projection.outputs], role: .vector)
                return projection.hasBias ? [weight, bias] : [weight]
            }
        }
        func norm(_ place: LayerNormPlace) -> [ExpectedTensor] {
            normTensors(normPath(layer, place))
        }
        var headNorms: [ExpectedTensor] = []
        if queryKeyNorm != .none {
            let attention = layerPath(layer) + ".self_attn."
            headNorms = [("q_norm", queryNormWidth), ("k_norm", keyNormWidth)].map {
                ExpectedTensor(name: attention + $0 + ".weight", shape: [$1], role: .vector)
            }
        }
        return norm(.attentionInput) + projections(.queryKeyValue) + headNorms
            + projections(.attentionOutput) + norm(.attentionOutput) + norm(.feedForwardInput)
            + projections(.gateUp) + projections(.down) + norm(.feedForwardOutput)
    }
}

/// Compares what a source holds with what the architecture needs.
public enum TensorInventory {
    /// How many names a message lists before it only counts.
    static let maximumNames = 8

    /// Checks that each needed tensor is there once, in the right shape and readable, and that no other is.
    ///
    /// Rotation tables that old checkpoints carry are passed over. A tied head that is stored anyway must
    /// equal the embedding.
    ///
    /// - Throws: `ModelFileError` listing the tensors at fault.
    public static func check(_ source: any TensorSource, against config: ModelConfig) throws {
        let expected = config.expectedTensors
        var missing: [String] = []
        for tensor in expected {
            guard let found = source.description(of: tensor.name) else {
                missing.append(tensor.name)
                continue
            }
            guard found.shape == tensor.shape else {
                throw ModelFileError(
                    .shapeMismatch, file: source.path, item: tensor.name,
                    "has shape \(found.shape), config.json makes it \(tensor.shape)")
            }
            guard found.elementType.isReadableFloat else {
                throw ModelFileError(
                    .unsupported, file: source.path, item: tensor.name,
                    "type \(found.elementType.rawValue) is not read; "
                        + ElementType.readableFloats + " are")
            }
        }
        guard missing.isEmpty else {
            throw ModelFileError(
                .missingTensor, file: source.path, item: list(missing),
                "\(missing.count) of \(expected.count) tensors are missing")
        }
        let names = Set(expected.map(\.name))
        let unknown = source.tensors.map(\.name).filter { !names.contains($0) && !isPassedOver($0) }
        guard unknown != [config.headPath + ".weight"] || !config.tiedEmbeddings else {
            return try checkTiedHead(source, config)
        }
        guard unknown.isEmpty else {
            throw ModelFileError(
                .unknownTensor, file: source.path, item: list(unknown),
                "\(unknown.count) tensors have no place in a \(config.family.rawValue) model of "
                    + "\(config.layerCount) layers")
        }
    }

    /// Buffers that old versions of transformers stored beside the weights.
    private static func isPassedOver(_ name: String) -> Bool {
        name.hasSuffix(".rotary_emb.inv_freq")
    }

    private static func checkTiedHead(
        _ source: any TensorSource, _ config: ModelConfig
    ) throws {
        let embedding = config.embeddingPath + ".weight"
        let head = config.headPath + ".weight"
        let tensor = try source.require(embedding)
        guard try source.require(head).shape == tensor.shape else {
            throw ModelFileError(
                .shapeMismatch, file: source.path, item: head,
                "tie_word_embeddings is true, but its shape is not that of \(embedding)")
        }
        let width = tensor.rowElementCount
        var a = [Float](repeating: 0, count: width)
        var b = a
        for row in 0..<tensor.rowCount {
            try a.withUnsafeMutableBufferPointer {
                try source.readFloats(embedding, rows: row..<row + 1, into: $0)
            }
            try b.withUnsafeMutableBufferPointer {
                try source.readFloats(head, rows: row..<row + 1, into: $0)
            }
            guard a.elementsEqual(b, by: { $0.bitPattern == $1.bitPattern }) else {
                throw ModelFileError(
                    .unknownTensor, file: source.path, item: head,
                    "tie_word_embeddings is true, but row \(row) differs from \(embedding); "
                        + "set it to false to use the stored head")
            }
        }
    }

    private static func list(_ names: [String]) -> String {
        let shown = names.prefix(maximumNames).joined(separator: ", ")
        return names.count > maximumNames ? shown + ", …" : shown
    }
}
