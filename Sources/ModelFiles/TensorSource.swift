/// Name, type and shape of a tensor; the bytes are read through a `TensorSource`.
public struct TensorDescription: Sendable, Equatable {
    /// The Hugging Face name, such as `model.layers.0.self_attn.q_proj.weight`.
    public let name: String
    /// The type the tensor is given out in. A quantized GGUF tensor says `bfloat16` (or `float32` where asked for).
    public let elementType: ElementType
    /// Outermost dimension first; a projection is `[out, in]`.
    public let shape: [Int]

    public init(name: String, elementType: ElementType, shape: [Int]) {
        self.name = name
        self.elementType = elementType
        self.shape = shape
    }

    /// Number of elements. Checked against the file when it was read, so it cannot overflow.
    public var elementCount: Int { shape.reduce(1, *) }
    /// First dimension; 1 for a scalar.
    public var rowCount: Int { shape.first ?? 1 }
    /// Elements of one row: the product of all dimensions but the first.
    public var rowElementCount: Int { shape.dropFirst().reduce(1, *) }
}

/// Where the tensors of a model come from: a safetensors checkpoint, a GGUF file, an adapter file.
///
/// Rows are indexes of the first dimension. A one-dimensional tensor of n elements has n rows of one element.
public protocol TensorSource: Sendable {
    /// The file or folder, for messages.
    var path: String { get }
    /// Every tensor, in bytewise order of the names.
    var tensors: [TensorDescription] { get }
    func description(of name: String) -> TensorDescription?
    /// Writes rows as float32, row-major; exact for float16, bfloat16 and float32 tensors.
    ///
    /// - Throws: `ModelFileError` if the tensor is missing, its type is no float, or `output` does not hold exactly those rows.
    func readFloats(
        _ name: String, rows: Range<Int>, into output: UnsafeMutableBufferPointer<Float>)
        throws
    /// Writes rows as bfloat16 bit patterns, rounded to nearest even where the source is wider.
    func readBFloat16(
        _ name: String, rows: Range<Int>, into output: UnsafeMutableBufferPointer<UInt16>) throws
    /// Says whether what was read so far came from one state of the files.
    ///
    /// - Throws: `ModelFileError.corrupt` if a file changed since it was opened.
    func checkUnchanged() throws
}

extension TensorSource {
    /// Nothing that lies in memory changes.
    public func checkUnchanged() throws {}

    /// The description, or an error that names the tensor.
    public func require(_ name: String) throws -> TensorDescription {
        guard let found = description(of: name) else {
            throw ModelFileError(.missingTensor, file: path, item: name, "no such tensor")
        }
        return found
    }

    /// The whole tensor as float32, row-major.
    public func floats(_ name: String) throws -> [Float] {
        let tensor = try require(name)
        let count = tensor.elementCount
        return try [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
            // Numbers need no initial value, and a failed read gives the array up.
            let target = UnsafeMutableBufferPointer(rebasing: buffer[0..<count])
            try readFloats(name, rows: 0..<tensor.rowCount, into: target)
            initialized = count
        }
    }

    /// The whole tensor as bfloat16 bit patterns, row-major.
    public func bfloat16(_ name: String) throws -> [UInt16] {
        let tensor = try require(name)
        let count = tensor.elementCount
        return try [UInt16](unsafeUninitializedCapacity: count) { buffer, initialized in
            let target = UnsafeMutableBufferPointer(rebasing: buffer[0..<count])
            target.initialize(repeating: 0)
            initialized = count
            try readBFloat16(name, rows: 0..<tensor.rowCount, into: target)
        }
    }

    /// Checks a request for rows before any byte is touched.
    func checkRows(_ tensor: TensorDescription, _ rows: Range<Int>, capacity: Int) throws {
        guard rows.lowerBound >= 0, rows.upperBound <= tensor.rowCount,
            capacity == rows.count * tensor.rowElementCount
        else {
            throw ModelFileError(
                .shapeMismatch, file: path, item: tensor.name,
                "rows \(rows) of shape \(tensor.shape) do not fill a buffer of \(capacity) elements"
            )
        }
    }
}

/// Bytewise order of names: Swift's `<` on strings follows Unicode, file formats do not.
func bytewisePrecedes(_ a: String, _ b: String) -> Bool {
    a.utf8.lexicographicallyPrecedes(b.utf8)
}
