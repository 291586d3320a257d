import CKernels
import LinuxSystem

extension Compute {
    /// Floating-point operations a second of products in registers alone, on all threads: no product can be faster.
    ///
    /// - Parameter type: Of the factors; sums are float32.
    /// - Returns: nil where this instruction set has no products of that type.
    public func productRate(_ type: ElementType) throws(KernelError) -> Double? {
        if type == .bfloat16, instructionSet != .avx512bf16 { return nil }
        var arguments = ck_peak_args()
        arguments.type = type.code
        arguments.steps = 10_000
        // Long enough to outlast a neighbour's turn on the core, short enough to be measured often.
        while true {
            let (_, seconds) = try peak(&arguments)
            if seconds > 0.01 || arguments.steps > 1 << 40 { break }
            arguments.steps *= 2
        }
        var best = 0.0
        for _ in 0..<3 {
            let (done, seconds) = try peak(&arguments)
            best = max(best, done / seconds)
        }
        return best
    }

    /// Bytes a second that all threads read from memory, over and over through all of `matrix`.
    public func readRate(_ matrix: Matrix) throws(KernelError) -> Double {
        var arguments = ck_peak_args()
        arguments.memory = UnsafeRawPointer(matrix.base)
        arguments.bytes = max(0, matrix.rows - 1) * matrix.stride * matrix.elementType.byteCount
        try require(arguments.bytes >= 1 << 20, "reading less than a mebibyte measures nothing")
        var best = 0.0
        for _ in 0..<3 {
            let (done, seconds) = try peak(&arguments)
            best = max(best, done / seconds)
        }
        return best
    }

    private func peak(_ arguments: inout ck_peak_args) throws(KernelError) -> (Double, Double) {
        let results = try Matrix(rows: pool.threadCount, columns: 2 * Int(CK_PEAK_STRIDE))
        let values = UnsafeMutableRawPointer(results.base).assumingMemoryBound(to: Double.self)
        arguments.results = values
        let start = MonotonicTime.now()
        run(.peak, kernels.pointee.peak, &arguments)
        let seconds = (MonotonicTime.now() - start).seconds
        var done = 0.0
        for thread in 0..<pool.threadCount { done += values[thread * Int(CK_PEAK_STRIDE)] }
        return (done, max(seconds, 1e-9))
    }
}
