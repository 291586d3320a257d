import CKernels

extension Compute {
    /// Packs row-major weights.
    ///
    /// - Parameters:
    ///   - parts: Stacked one under the other: `[rows_i, K]` each, of either element type; all but the last have a
    ///     multiple of 32 rows. For a paired layout exactly two parts of equal size (gate, up), or one that holds both.
    ///   - layout: What comes out; its rows are the sum of the parts' rows. float32 → bf16 rounds to nearest even,
    ///     bf16 → bf16 copies bits.
    public func pack(_ parts: [Matrix], _ layout: PackedMatrix.Layout) throws(KernelError)
        -> PackedMatrix
    {
        let packed = try PackedMatrix(layout)
        try pack(parts, into: packed)
        return packed
    }

    /// Packs row-major weights with a plain layout of the given type.
    public func pack(_ weights: Matrix, _ elementType: ElementType = .bfloat16)
        throws(KernelError) -> PackedMatrix
    {
        try pack(
            [weights],
            PackedMatrix.Layout(rows: weights.rows, columns: weights.columns, elementType))
    }

    /// Packs again into memory that is there, for weights that change (adapters in training).
    public func pack(_ parts: [Matrix], into packed: PackedMatrix) throws(KernelError) {
        try pack(
            parts, packed.layout,
            into: UnsafeMutableRawBufferPointer(
                start: packed.storage.base, count: packed.layout.byteCount))
    }

    /// Packs into `layout.byteCount` bytes of a buffer, for instance of a file being written.
    public func pack(
        _ parts: [Matrix], _ layout: PackedMatrix.Layout,
        into bytes: UnsafeMutableRawBufferPointer
    ) throws(KernelError) {
        guard let start = bytes.baseAddress, bytes.count >= layout.byteCount,
            let first = parts.first
        else {
            throw KernelError(
                .layout, "\(bytes.count) bytes cannot hold a packed matrix of \(layout.byteCount)")
        }
        try require(
            parts.allSatisfy { $0.columns == layout.columns }
                && parts.reduce(0) { $0 + $1.rows } == layout.rows,
            "parts of \(parts.map { "\($0.rows) × \($0.columns)" }) do not make"
                + " \(layout.rows) × \(layout.columns)")
        var arguments = ck_pack_args()
        arguments.rows = layout.rows
        arguments.columns = layout.columns
        arguments.type = layout.elementType.code
        arguments.out = start
        if layout.paired {
            arguments.paired = 1
            arguments.source = first.c
            if parts.count == 2 {
                try require(
                    parts[0].rows == parts[1].rows, "the halves of a paired matrix differ in rows")
                arguments.second = parts[1].c
            } else {
                try require(parts.count == 1, "a paired matrix has two halves")
            }
            run(.pack, kernels.pointee.pack, &arguments)
            return
        }
        try require(
            parts.dropLast().allSatisfy { $0.rows % 32 == 0 },
            "stacked parts need a multiple of 32 rows")
        let depth =
            layout.elementType == .bfloat16 ? (layout.columns + 1) / 2 * 2 : layout.columns
        var offset = 0
        for part in parts where part.rows > 0 {
            arguments.source = part.c
            arguments.rows = part.rows
            arguments.out = start + offset
            run(.pack, kernels.pointee.pack, &arguments)
            offset += part.rows * depth * layout.elementType.byteCount
        }
    }

    /// Row-major copy of a packed matrix: `out [rows, columns]`, either element type. For merging and export.
    public func unpack(_ weights: PackedMatrix, into out: Matrix) throws(KernelError) {
        try out.expect(weights.rows, weights.columns, "out")
        var arguments = ck_unpack_args(w: weights.c, out: out.c)
        run(.unpack, kernels.pointee.unpack, &arguments)
    }
}
