import ModelFiles

@testable import LoRA

/// A two-layer model of the Llama shape, 8 wide, with made-up matrices.
struct TestModel: ModuleInventory {
    var layerCount = 2
    var hasTiedHead = false
    /// q and the norms have biases.
    var hasBiases = false
    static let width = 8
    static let tokens = 12

    var modules: [AdaptableModule] {
        let width = Self.width
        var result = [
            AdaptableModule(
                path: "model.embed_tokens", kind: .embedding, outputs: width, inputs: Self.tokens)
        ]
        for layer in 0..<layerCount {
            func add(_ name: String, _ outputs: Int, _ inputs: Int) {
                result.append(
                    AdaptableModule(
                        path: "model.layers.\(layer).\(name)", kind: .linear, outputs: outputs,
                        inputs: inputs, hasBias: hasBiases && name.hasSuffix("q_proj")))
            }
            add("self_attn.q_proj", width, width)
            add("self_attn.k_proj", width / 2, width)
            add("self_attn.v_proj", width / 2, width)
            add("self_attn.o_proj", width, width)
            add("mlp.gate_proj", 16, width)
            add("mlp.up_proj", 16, width)
            add("mlp.down_proj", width, 16)
            result.append(
                AdaptableModule(
                    path: "model.layers.\(layer).input_layernorm", kind: .other, outputs: width,
                    inputs: 1, hasBias: hasBiases))
        }
        result.append(
            AdaptableModule(path: "lm_head", kind: .head, outputs: Self.tokens, inputs: width))
        return result
    }

    func baseWeights(of path: String) throws -> [Float] {
        let module = modules.first { $0.path == path }
        let count = (module?.outputs ?? 0) * (module?.inputs ?? 0)
        return (0..<count).map { Float($0 % 7) - 3 }
    }

    func baseBias(of path: String) throws -> [Float] {
        (0..<Self.width).map { Float($0) + (path.hasSuffix("norm") ? 0.5 : 0) }
    }
}

/// Tensors in memory.
struct MemoryTensors: TensorSource {
    let path = "memory"
    var stored: [(name: String, shape: [Int], values: [Float])]

    var tensors: [TensorDescription] {
        stored.map { TensorDescription(name: $0.name, elementType: .float32, shape: $0.shape) }
    }
    func description(of name: String) -> TensorDescription? { tensors.first { $0.name == name } }
    func readFloats(
        _ name: String, rows: Range<Int>, into output: UnsafeMutableBufferPointer<Float>
    ) throws {
        guard let tensor = stored.first(where: { $0.name == name }) else {
            throw ModelFileError(.missingTensor, file: path, item: name, "no such tensor")
        }
        let width = tensor.shape.dropFirst().reduce(1, *)
        for index in 0..<output.count {
            output[index] = tensor.values[rows.lowerBound * width + index]
        }
    }
    func readBFloat16(
        _ name: String, rows: Range<Int>, into output: UnsafeMutableBufferPointer<UInt16>
    ) throws {
        throw ModelFileError(.unsupported, file: path, item: name, "float32 only")
    }

    mutating func change(
        _ name: String, _ body: (inout (name: String, shape: [Int], values: [Float])) -> Void
    ) {
        guard let index = stored.firstIndex(where: { $0.name == name }) else { return }
        body(&stored[index])
    }
}
