import CKernels

/// A weight matrix `W [rows N (outputs), columns K (inputs)]` in the order the kernels read it.
///
/// bf16: panels of 32 outputs, `[panel][K/2][32][2]` (pairs along the contraction side by side); float32:
/// `[panel][K][32]`. Where `N mod 32` is 1...16 the last panel is 16 wide. Tails are zero. In a *paired* matrix, made
/// of two halves of `N/2` rows (gate, up), panels of the two halves alternate, and `N/2` is a multiple of 32.
public struct PackedMatrix: Sendable {
    /// Size and order of a packed matrix: all that a file must record to find it again.
    public struct Layout: Sendable, Hashable, Codable {
        /// Outputs N.
        public let rows: Int
        /// Inputs K.
        public let columns: Int
        public let elementType: ElementType
        /// Panels of the first and second half of the rows alternate.
        public let paired: Bool

        /// - Throws: `.shape` for sizes that are not positive or overflow, or a paired half that is not whole panels.
        public init(
            rows: Int, columns: Int, _ elementType: ElementType = .bfloat16, paired: Bool = false
        ) throws(KernelError) {
            try require(
                rows > 0 && columns > 0 && rows < 1 << 31 && columns < 1 << 31,
                "a packed matrix cannot be \(rows) × \(columns)")
            try require(
                !paired || rows % 64 == 0,
                "a paired matrix needs halves of a multiple of 32 rows, not \(rows)/2")
            self.rows = rows
            self.columns = columns
            self.elementType = elementType
            self.paired = paired
        }

        /// Bytes of the packed matrix; no header, no padding between panels.
        public var byteCount: Int {
            let depth = elementType == .bfloat16 ? (columns + 1) / 2 * 2 : columns
            return (rows + 15) / 16 * 16 * depth * elementType.byteCount
        }

        /// Where packed matrices may start in memory and in files.
        public static let alignment = 64
    }

    public let layout: Layout
    let storage: MatrixStorage

    public var rows: Int { layout.rows }
    public var columns: Int { layout.columns }
    public var elementType: ElementType { layout.elementType }
    public var paired: Bool { layout.paired }

    /// A packed matrix of zeros, to be filled by `Compute.pack`.
    public init(_ layout: Layout) throws(KernelError) {
        self.layout = layout
        storage = try MatrixStorage(byteCount: layout.byteCount)
    }

    /// A packed matrix that lies elsewhere, for instance in a mapped file.
    ///
    /// - Parameters:
    ///   - bytes: `layout.byteCount` bytes, or more, at an address that is a multiple of 64.
    ///   - owner: Kept alive as long as the matrix; must keep `bytes` valid.
    /// - Throws: `.layout` when the bytes are too few or not aligned.
    public init(
        viewing bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable, _ layout: Layout
    ) throws(KernelError) {
        try require(
            bytes.count >= layout.byteCount, .layout,
            "\(bytes.count) bytes cannot hold a packed matrix of \(layout.byteCount)")
        self.layout = layout
        storage = try MatrixStorage(viewing: bytes, owner: owner)
        try require(
            Int(bitPattern: storage.base) % Layout.alignment == 0, .layout,
            "a packed matrix does not start at a multiple of \(Layout.alignment) bytes")
    }

    /// `W[row][column]`, for tests and tools.
    public subscript(row: Int, column: Int) -> Float {
        precondition(row >= 0 && row < rows && column >= 0 && column < columns)
        let half = rows / 2
        let panel = paired ? row % half / 32 * 2 + row / half : row / 32
        let lane = (paired ? row % half : row) % 32
        let width = rows - panel * 32 > 16 ? 32 : 16
        if elementType == .float32 {
            let index = panel * 32 * columns + column * width + lane
            return storage.base.load(fromByteOffset: index * 4, as: Float.self)
        }
        let depth = (columns + 1) / 2 * 2
        let index = panel * 32 * depth + column / 2 * width * 2 + lane * 2 + column % 2
        let bits = storage.base.load(fromByteOffset: index * 2, as: UInt16.self)
        return Float(bitPattern: UInt32(bits) << 16)
    }

    /// Calls `body` with the packed bytes, for writing them to a file.
    public func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows
        -> Result
    {
        try body(UnsafeRawBufferPointer(start: storage.base, count: layout.byteCount))
    }

    var c: ck_packed {
        ck_packed(
            data: storage.base, rows: rows, columns: columns, type: elementType.code,
            paired: paired ? 1 : 0)
    }
}
