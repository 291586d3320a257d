import CKernels

/// How one number is stored.
public enum ElementType: String, Sendable, Codable, CaseIterable {
    case float32
    case bfloat16

    /// Bytes of one element.
    public var byteCount: Int { self == .float32 ? 4 : 2 }

    var code: Int32 { self == .float32 ? Int32(CK_F32) : Int32(CK_BF16) }
}

/// The memory behind one or more matrices: either its own, freed at the end, or bytes that `owner` keeps alive.
///
/// `@unchecked Sendable`: the address and size never change; who may write when is the caller's to order, as
/// `Matrix` says.
final class MatrixStorage: @unchecked Sendable {
    let base: UnsafeMutableRawPointer
    let byteCount: Int
    private let owner: (any AnyObject & Sendable)?

    init(byteCount: Int) throws(KernelError) {
        guard let memory = ck_alloc(byteCount) else {
            throw KernelError(.memory, "no memory for a matrix of \(byteCount) bytes")
        }
        base = memory
        self.byteCount = byteCount
        owner = nil
    }

    init(viewing bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable) throws(KernelError)
    {
        guard let start = bytes.baseAddress else {
            throw KernelError(.layout, "an empty byte range cannot hold a matrix")
        }
        base = UnsafeMutableRawPointer(mutating: start)
        byteCount = bytes.count
        self.owner = owner
    }

    deinit { if owner == nil { ck_free(base, byteCount) } }
}

/// A row-major matrix `[rows, columns]`, or a view of a rectangle of one.
///
/// Copying a `Matrix` copies the view, not the numbers: views made by `rows(_:)` and `columns(_:)` share memory with
/// the matrix they come from, and operations write through them. Rows of a fresh matrix start at multiples of
/// 64 bytes. Two operations must not run at the same time when one of them writes what the other touches; the engine
/// issues its operations one after the other from one thread.
public struct Matrix: Sendable {
    let storage: MatrixStorage
    /// Elements before the first one.
    let offset: Int
    public let rows: Int
    public let columns: Int
    /// Elements from one row to the next.
    public let stride: Int
    public let elementType: ElementType

    /// A zero matrix.
    ///
    /// - Throws: `KernelError.memory`, or `.shape` for negative or absurd sizes.
    public init(rows: Int, columns: Int, _ elementType: ElementType = .float32)
        throws(KernelError)
    {
        try require(
            rows >= 0 && columns >= 0 && rows < 1 << 40 && columns < 1 << 40,
            "a matrix cannot be \(rows) × \(columns)")
        let unit = 64 / elementType.byteCount
        let stride = max(unit, (columns + unit - 1) / unit * unit)
        let (bytes, overflow) = (stride * elementType.byteCount).multipliedReportingOverflow(
            by: max(rows, 1))
        try require(!overflow, "a matrix of \(rows) × \(columns) is too large")
        self.init(
            storage: try MatrixStorage(byteCount: bytes), offset: 0, rows: rows, columns: columns,
            stride: stride, elementType: elementType)
    }

    /// A float32 row vector `[1, count]` with the given numbers.
    public init(vector values: [Float]) throws(KernelError) {
        try self.init(rows: 1, columns: values.count)
        try copy(from: values)
    }

    /// A float32 or bf16 matrix with the given numbers in row-major order.
    public init(rows: Int, columns: Int, _ elementType: ElementType = .float32, values: [Float])
        throws(KernelError)
    {
        try self.init(rows: rows, columns: columns, elementType)
        try copy(from: values)
    }

    /// A zero float32 row vector `[1, count]`: norm weights, losses, saved statistics.
    public static func vector(_ count: Int) throws(KernelError) -> Matrix {
        try Matrix(rows: 1, columns: count)
    }

    /// Dense row-major numbers somewhere else, for instance in a mapped file. Never written to.
    ///
    /// - Parameters:
    ///   - bytes: At least `rows * columns` elements, aligned to the element size.
    ///   - owner: Kept alive as long as the matrix or a view of it; must keep `bytes` valid.
    public init(
        viewing bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable, rows: Int,
        columns: Int, _ elementType: ElementType
    ) throws(KernelError) {
        let (count, overflow) = rows.multipliedReportingOverflow(by: columns)
        try require(
            rows >= 0 && columns >= 0 && !overflow && count <= bytes.count / elementType.byteCount,
            .layout,
            "\(bytes.count) bytes cannot hold \(rows) × \(columns) of \(elementType.rawValue)")
        let storage = try MatrixStorage(viewing: bytes, owner: owner)
        try require(
            Int(bitPattern: storage.base) % elementType.byteCount == 0, .layout,
            "the bytes of a matrix are not aligned to \(elementType.byteCount)")
        self.init(
            storage: storage, offset: 0, rows: rows, columns: columns, stride: columns,
            elementType: elementType)
    }

    init(
        storage: MatrixStorage, offset: Int, rows: Int, columns: Int, stride: Int,
        elementType: ElementType
    ) {
        self.storage = storage
        self.offset = offset
        self.rows = rows
        self.columns = columns
        self.stride = stride
        self.elementType = elementType
    }

    // MARK: Views

    /// Rows `range` as a matrix that shares memory with this one.
    public func rows(_ range: Range<Int>) throws(KernelError) -> Matrix {
        try require(
            range.lowerBound >= 0 && range.upperBound <= rows, .range,
            "rows \(range) of a matrix with \(rows) rows")
        return Matrix(
            storage: storage, offset: offset + range.lowerBound * stride, rows: range.count,
            columns: columns, stride: stride, elementType: elementType)
    }

    /// Columns `range` as a matrix that shares memory with this one.
    public func columns(_ range: Range<Int>) throws(KernelError) -> Matrix {
        try require(
            range.lowerBound >= 0 && range.upperBound <= columns, .range,
            "columns \(range) of a matrix with \(columns) columns")
        return Matrix(
            storage: storage, offset: offset + range.lowerBound, rows: rows, columns: range.count,
            stride: stride, elementType: elementType)
    }

    // MARK: Numbers

    /// Bytes of memory behind the matrix (the whole storage, shared by its views).
    public var storageByteCount: Int { storage.byteCount }

    public subscript(row: Int, column: Int) -> Float {
        get {
            precondition(row >= 0 && row < rows && column >= 0 && column < columns)
            let at = offset + row * stride + column
            switch elementType {
            case .float32: return storage.base.load(fromByteOffset: 4 * at, as: Float.self)
            case .bfloat16:
                let bits = storage.base.load(fromByteOffset: 2 * at, as: UInt16.self)
                return Float(bitPattern: UInt32(bits) << 16)
            }
        }
        nonmutating set {
            precondition(row >= 0 && row < rows && column >= 0 && column < columns)
            let at = offset + row * stride + column
            switch elementType {
            case .float32:
                storage.base.storeBytes(of: newValue, toByteOffset: 4 * at, as: Float.self)
            case .bfloat16:
                storage.base.storeBytes(
                    of: bfloat16Bits(newValue), toByteOffset: 2 * at, as: UInt16.self)
            }
        }
    }

    /// All numbers, row-major.
    public var values: [Float] {
        var result = [Float]()
        result.reserveCapacity(rows * columns)
        for row in 0..<rows {
            for column in 0..<columns { result.append(self[row, column]) }
        }
        return result
    }

    /// One row's numbers.
    public func row(_ row: Int) -> [Float] { (0..<columns).map { self[row, $0] } }

    /// Sets all numbers from a row-major array of `rows * columns`.
    public func copy(from values: [Float]) throws(KernelError) {
        try require(
            values.count == rows * columns,
            "\(values.count) numbers for a matrix of \(rows) × \(columns)")
        for row in 0..<rows {
            for column in 0..<columns { self[row, column] = values[row * columns + column] }
        }
    }

    /// Sets all numbers from dense row-major bytes of this matrix's own element type.
    public func copy(bytes: UnsafeRawBufferPointer) throws(KernelError) {
        let line = columns * elementType.byteCount
        try require(
            bytes.count == rows * line,
            "\(bytes.count) bytes for a matrix of \(rows) × \(columns) \(elementType.rawValue)")
        guard let source = bytes.baseAddress else { return }
        for row in 0..<rows {
            (base + row * stride * elementType.byteCount)
                .copyMemory(from: source + row * line, byteCount: line)
        }
    }

    /// Sets every number.
    public func fill(_ value: Float) {
        if value == 0 && value.sign == .plus {
            for row in 0..<rows {
                (base + row * stride * elementType.byteCount)
                    .initializeMemory(
                        as: UInt8.self, repeating: 0, count: columns * elementType.byteCount)
            }
            return
        }
        for row in 0..<rows {
            for column in 0..<columns { self[row, column] = value }
        }
    }

    /// Calls `body` with one row's float32 numbers.
    public func withFloats<Result>(
        row: Int, _ body: (UnsafeMutableBufferPointer<Float>) throws -> Result
    ) throws -> Result {
        try require(
            elementType == .float32 && row >= 0 && row < rows, .elementType,
            "row \(row) of a \(elementType.rawValue) matrix with \(rows) rows as float32")
        let start = (base + row * stride * 4).assumingMemoryBound(to: Float.self)
        return try body(UnsafeMutableBufferPointer(start: start, count: columns))
    }

    /// Calls `body` with one row's bytes.
    public func withBytes<Result>(
        row: Int, _ body: (UnsafeMutableRawBufferPointer) throws -> Result
    ) throws -> Result {
        try require(row >= 0 && row < rows, .range, "row \(row) of a matrix with \(rows) rows")
        return try body(
            UnsafeMutableRawBufferPointer(
                start: base + row * stride * elementType.byteCount,
                count: columns * elementType.byteCount))
    }

    // MARK: For the kernels

    var base: UnsafeMutableRawPointer { storage.base + offset * elementType.byteCount }

    var c: ck_matrix { ck_matrix(data: base, stride: stride, type: elementType.code) }

    /// The numbers of a float32 row vector.
    func vectorPointer(_ count: Int, _ name: String) throws(KernelError)
        -> UnsafeMutablePointer<Float>
    {
        try require(
            rows == 1 && columns == count,
            "\(name) is \(rows) × \(columns), not 1 × \(count)")
        try require(elementType == .float32, .elementType, "\(name) is not float32")
        return base.assumingMemoryBound(to: Float.self)
    }

    func expect(_ rows: Int, _ columns: Int, _ name: String) throws(KernelError) {
        try require(
            self.rows == rows && self.columns == columns,
            "\(name) is \(self.rows) × \(self.columns), not \(rows) × \(columns)")
    }

    func expect(_ type: ElementType, _ name: String) throws(KernelError) {
        try require(
            elementType == type, .elementType,
            "\(name) is \(elementType.rawValue), not \(type.rawValue)")
    }
}

/// The upper half of a float32, rounded to nearest even; NaN stays NaN.
public func bfloat16Bits(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    if bits & 0x7fff_ffff > 0x7f80_0000 { return UInt16(truncatingIfNeeded: bits >> 16) | 0x40 }
    return UInt16(truncatingIfNeeded: (bits &+ 0x7fff &+ ((bits >> 16) & 1)) >> 16)
}
