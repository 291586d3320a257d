/// One module of a base model, named by the path that PEFT sees (`model.layers.0.self_attn.q_proj`).
public struct AdaptableModule: Sendable, Equatable {
    public enum Kind: Sendable, Equatable {
        case linear
        /// The linear module that gives the logits.
        case head
        /// The token embedding: `outputs` is its width, `inputs` the number of tokens.
        case embedding
        /// A norm or the like: known by name, never adapted.
        case other
    }

    public let path: String
    public let kind: Kind
    /// Rows of a linear's matrix; the width of an embedding.
    public let outputs: Int
    /// Columns of a linear's matrix; the number of tokens of an embedding.
    public let inputs: Int
    /// Whether it has a bias, of `outputs` numbers.
    public let hasBias: Bool

    public init(path: String, kind: Kind, outputs: Int, inputs: Int, hasBias: Bool = false) {
        self.path = path
        self.kind = kind
        self.outputs = outputs
        self.inputs = inputs
        self.hasBias = hasBias
    }

    /// Of its matrix as the checkpoint holds it: `[outputs, inputs]`, of an embedding `[tokens, width]`.
    public var weightShape: [Int] { kind == .embedding ? [inputs, outputs] : [outputs, inputs] }

    public var name: Substring { path.split(separator: ".").last ?? "" }
}

/// What an adapter must know of its base model.
public protocol ModuleInventory {
    /// All modules in model order, containers left out (they follow from the paths).
    var modules: [AdaptableModule] { get }
    /// Whether the head has no matrix of its own but uses the embedding's.
    var hasTiedHead: Bool { get }

    /// The base matrix of a module, row-major as the checkpoint holds it: `[outputs, inputs]` of a
    /// linear, `[tokens, width]` of an embedding.
    ///
    /// - Throws: an error of the model's own when there is none of that name.
    func baseWeights(of path: String) throws -> [Float]

    /// The base's bias of a module that has one, `[outputs]`.
    ///
    /// - Throws: an error of the model's own when there is none of that name.
    func baseBias(of path: String) throws -> [Float]
}

extension ModuleInventory {
    public var hasTiedHead: Bool { false }

    public func baseBias(of path: String) throws -> [Float] {
        throw LoRAError(.targets, "has no bias", subject: path)
    }
}
