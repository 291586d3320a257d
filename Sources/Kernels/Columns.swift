// Operations column by column, element-wise in each row: scales, biases and their gradients.

extension Compute {
    /// `x[row, column] = x[row, column] · scale[column] + bias[column]`, in place.
    ///
    /// - Parameters:
    ///   - x: `[M, N]`, either element type.
    ///   - scale: `[1, N]` float32.
    ///   - bias: `[1, N]` float32, or nil.
    public func scaleColumns(
        _ x: Matrix, by scale: Matrix, adding bias: Matrix? = nil
    ) throws(KernelError) {
        let factors = UnsafePointer(try scale.vectorPointer(x.columns, "scale"))
        let addends = UnsafePointer(try bias?.vectorPointer(x.columns, "bias"))
        let columns = x.columns
        nonisolated(unsafe) let (scales, biases) = (factors, addends)
        pool.run { thread, threads in
            for row in x.rows * thread / threads..<x.rows * (thread + 1) / threads {
                switch x.elementType {
                case .float32:
                    let values = x.floats(row)
                    for column in 0..<columns { values[column] *= scales[column] }
                    guard let biases else { continue }
                    for column in 0..<columns { values[column] += biases[column] }
                case .bfloat16:
                    let values = x.halves(row)
                    for column in 0..<columns {
                        let value = Float(bitPattern: UInt32(values[column]) << 16)
                        values[column] = bfloat16Bits(
                            value * scales[column] + (biases?[column] ?? 0))
                    }
                }
            }
        }
    }

    /// `sums[column] += Σ over rows of x[row, column] · y[row, column]`: gradients of biases and scales.
    ///
    /// A column is summed in the order of its rows, by one thread.
    ///
    /// - Parameters:
    ///   - x: `[M, N]`, either element type.
    ///   - y: `[M, N]` float32; nil: ones.
    ///   - sums: `[1, N]` float32.
    public func addColumnSums(
        of x: Matrix, times y: Matrix? = nil, into sums: Matrix
    ) throws(KernelError) {
        try y?.expect(x.rows, x.columns, "y")
        try y?.expect(.float32, "y")
        nonisolated(unsafe) let totals = try sums.vectorPointer(x.columns, "sums")
        let columns = x.columns
        pool.run { thread, threads in
            let range = columns * thread / threads..<columns * (thread + 1) / threads
            for row in 0..<x.rows {
                let factors = y.map { UnsafePointer($0.floats(row)) }
                switch (x.elementType, factors) {
                case (.float32, nil):
                    let values = x.floats(row)
                    for column in range { totals[column] += values[column] }
                case (.float32, let factors?):
                    let values = x.floats(row)
                    for column in range { totals[column] += values[column] * factors[column] }
                case (.bfloat16, let factors):
                    let values = x.halves(row)
                    for column in range {
                        let value = Float(bitPattern: UInt32(values[column]) << 16)
                        totals[column] += value * (factors?[column] ?? 1)
                    }
                }
            }
        }
    }

    /// `table[ids[row], column] += scale · x[row, column]`: the gradient of an embedding.
    ///
    /// A column is summed in the order of the rows, by one thread.
    ///
    /// - Parameters:
    ///   - x: `[ids.count, D]` float32.
    ///   - table: `[V, D]` float32.
    /// - Throws: `.range` for an id outside the table.
    public func scatterAdd(
        _ x: Matrix, scale: Float, to ids: [Int32], of table: Matrix
    ) throws(KernelError) {
        try x.expect(ids.count, table.columns, "x")
        try x.expect(.float32, "x")
        try table.expect(.float32, "table")
        for id in ids {
            try require(
                id >= 0 && Int(id) < table.rows, .range,
                "id \(id) is not in a table of \(table.rows) rows")
        }
        pool.run { thread, threads in
            let range = x.columns * thread / threads..<x.columns * (thread + 1) / threads
            for (row, id) in ids.enumerated() {
                let (from, to) = (x.floats(row), table.floats(Int(id)))
                for column in range { to[column] += scale * from[column] }
            }
        }
    }

    /// `dY[row, column] *= 1 - (y[row, column] / cap)²`: the gradient through `softCap`.
    ///
    /// - Parameters:
    ///   - dY: `[M, N]` float32, in place.
    ///   - y: `[M, N]` float32: what `softCap` gave.
    public func softCapBackward(_ dY: Matrix, y: Matrix, _ cap: Float) throws(KernelError) {
        try dY.expect(.float32, "dY")
        try y.expect(dY.rows, dY.columns, "y")
        try y.expect(.float32, "y")
        pool.run { thread, threads in
            for row in dY.rows * thread / threads..<dY.rows * (thread + 1) / threads {
                let (gradient, value) = (dY.floats(row), y.floats(row))
                for column in 0..<dY.columns {
                    let share = value[column] / cap
                    gradient[column] *= 1 - share * share
                }
            }
        }
    }
}

extension Matrix {
    /// The numbers of a bf16 row.
    func halves(_ row: Int) -> UnsafeMutablePointer<UInt16> {
        (base + row * stride * 2).assumingMemoryBound(to: UInt16.self)
    }
}
