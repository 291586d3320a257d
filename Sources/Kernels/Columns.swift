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
}

extension Matrix {
    /// The numbers of a bf16 row.
    fileprivate func halves(_ row: Int) -> UnsafeMutablePointer<UInt16> {
        (base + row * stride * 2).assumingMemoryBound(to: UInt16.self)
    }
}
