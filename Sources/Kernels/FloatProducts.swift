import CKernels
import COpenBLAS

/// Products of float32 matrices by OpenBLAS: for verification, dense gradients and merging, never for inference, since
/// an sgemm row changes its bits with the number of rows.
public struct FloatProducts: Sendable {
    /// The CPU core OpenBLAS chose its kernels for; to be logged.
    public let coreName: String

    /// - Parameter threads: Threads OpenBLAS may use for one product.
    /// - Throws: `.selfTest` when a product differs from a plain loop: set `OPENBLAS_CORETYPE=Haswell` and start again.
    public init(threads: Int) throws(KernelError) {
        openblas_set_num_threads(Int32(clamping: threads))
        coreName = openblas_get_corename().map { String(cString: $0) } ?? "unknown"
        try selfTest()
    }

    /// `c = alpha · op(a) · op(b) + beta · c`, all float32; op transposes where asked.
    ///
    /// - Parameters:
    ///   - a: `[M, K]`, or `[K, M]` when transposed.
    ///   - b: `[K, N]`, or `[N, K]` when transposed.
    ///   - c: `[M, N]`.
    public func multiply(
        _ a: Matrix, transposed transposeA: Bool = false, _ b: Matrix,
        transposed transposeB: Bool = false, into c: Matrix, alpha: Float = 1, beta: Float = 0
    ) throws(KernelError) {
        let (m, k) = transposeA ? (a.columns, a.rows) : (a.rows, a.columns)
        let (kb, n) = transposeB ? (b.columns, b.rows) : (b.rows, b.columns)
        try require(k == kb, "a contracts over \(k), b over \(kb)")
        try c.expect(m, n, "c")
        for (matrix, name) in [(a, "a"), (b, "b"), (c, "c")] { try matrix.expect(.float32, name) }
        try require(
            [m, n, k, a.stride, b.stride, c.stride].allSatisfy { $0 < Int(Int32.max) },
            "a product of \(m) × \(k) × \(n) is too large")
        if m == 0 || n == 0 { return }
        cblas_sgemm(
            CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans,
            transposeB ? CblasTrans : CblasNoTrans, Int32(m), Int32(n), Int32(k), alpha,
            a.floats(0), Int32(a.stride), b.floats(0), Int32(b.stride), beta, c.floats(0),
            Int32(c.stride))
    }

    private func selfTest() throws(KernelError) {
        for (m, n, k) in [(3, 5, 7), (33, 65, 129), (129, 48, 257)] {
            for form in 0..<4 {
                let (ta, tb) = (form & 1 == 1, form & 2 == 2)
                let a = try Matrix(rows: ta ? k : m, columns: ta ? m : k)
                let b = try Matrix(rows: tb ? n : k, columns: tb ? k : n)
                let c = try Matrix(rows: m, columns: n)
                func value(_ i: Int, _ j: Int) -> Float { Float((i * 37 + j * 101) % 64 - 32) / 32 }
                for i in 0..<a.rows { for j in 0..<a.columns { a[i, j] = value(i, j) } }
                for i in 0..<b.rows { for j in 0..<b.columns { b[i, j] = value(i + 3, j + 5) } }
                try multiply(a, transposed: ta, b, transposed: tb, into: c)
                for i in 0..<m {
                    for j in 0..<n {
                        var sum: Float = 0
                        for l in 0..<k {
                            sum += (ta ? a[l, i] : a[i, l]) * (tb ? b[j, l] : b[l, j])
                        }
                        // Products of small multiples of 1/32 are exact: any other result is a wrong kernel.
                        try require(
                            sum == c[i, j], .selfTest,
                            "OpenBLAS (core \(coreName)) computes wrong products:"
                                + " set OPENBLAS_CORETYPE=Haswell and start again")
                    }
                }
            }
        }
    }
}
