import COpenBLAS

/// The singular values and vectors of a product of two thin factors, without ever forming the product.
///
/// For `M = factor · B A` with A `[rank, inputs]` and B `[outputs, rank]`: Aᵀ = Qa Ra and B = Qb Rb by Householder's QR,
/// and the singular value decomposition of the small core `factor · Rb Raᵀ` gives that of M (Golub and Van Loan 2013,
/// §5.4.8). All in double precision by LAPACK; exact up to its rounding.
public struct LowRankSpectrum: Sendable {
    /// Descending, of M; `min(rank, inputs, outputs)` at most.
    public let singularValues: [Double]
    private let inputs: Int
    private let outputs: Int
    /// Orthonormal bases of A's rows and B's columns, column-major: `[inputs, pa]`, `[outputs, pb]`.
    private let qa: [Double]
    private let qb: [Double]
    /// Singular vectors of the core, column-major: `[pb, count]` and `[count, pa]`.
    private let left: [Double]
    private let right: [Double]

    /// - Parameters:
    ///   - a: `[rank, inputs]`, row-major.
    ///   - b: `[outputs, rank]`, row-major.
    ///   - factor: What the product is multiplied with.
    /// - Throws: `.shape`; `.selfTest` when LAPACK does not converge, which happens on numbers that are not finite.
    public init(
        a: [Float], b: [Float], rank: Int, inputs: Int, outputs: Int, factor: Double
    ) throws(KernelError) {
        try require(
            rank > 0 && inputs > 0 && outputs > 0 && a.count == rank * inputs
                && b.count == outputs * rank && max(rank, inputs, outputs) < 1 << 24,
            "factors of \(a.count) and \(b.count) numbers for \(outputs) × \(rank) × \(inputs)")
        self.inputs = inputs
        self.outputs = outputs
        // Row-major [rank, inputs] is column-major [inputs, rank], which is Aᵀ.
        let (qa, ra, pa) = try Self.orthogonalized(a.map(Double.init), rows: inputs, columns: rank)
        var columns = [Double](repeating: 0, count: b.count)
        for row in 0..<outputs {
            for column in 0..<rank {
                columns[column * outputs + row] = Double(b[row * rank + column])
            }
        }
        let (qb, rb, pb) = try Self.orthogonalized(columns, rows: outputs, columns: rank)
        var core = [Double](repeating: 0, count: pb * pa)
        cblas_dgemm(
            CblasColMajor, CblasNoTrans, CblasTrans, Int32(pb), Int32(pa), Int32(rank), factor, rb,
            Int32(pb), ra, Int32(pa), 0, &core, Int32(pb))
        (left, singularValues, right) = try Self.decomposed(&core, rows: pb, columns: pa)
        (self.qa, self.qb) = (qa, qb)
    }

    /// The best approximation of M of a rank (Eckart and Young 1936), as two factors whose product it is.
    ///
    /// Each factor gets the square roots of the singular values, and the largest number of each row of A is positive,
    /// so that the same M always gives the same factors.
    ///
    /// - Parameter rank: 1 or more; rows beyond the number of singular values are zero.
    /// - Returns: A `[rank, inputs]` and B `[outputs, rank]`, row-major.
    public func factors(rank: Int) -> (a: [Float], b: [Float]) {
        let count = min(rank, singularValues.count)
        let (pa, pb) = (qa.count / inputs, qb.count / outputs)
        var a = [Float](repeating: 0, count: rank * inputs)
        var b = [Float](repeating: 0, count: outputs * rank)
        for index in 0..<count {
            let root = singularValues[index].squareRoot()
            var row = [Double](repeating: 0, count: inputs)
            for basis in 0..<pa {
                let part = right[basis * singularValues.count + index]
                for column in 0..<inputs { row[column] += part * qa[basis * inputs + column] }
            }
            var column = [Double](repeating: 0, count: outputs)
            for basis in 0..<pb {
                let part = left[index * pb + basis]
                for place in 0..<outputs { column[place] += part * qb[basis * outputs + place] }
            }
            let largest = row.max { abs($0) < abs($1) } ?? 0
            let signed = largest < 0 ? -root : root
            for place in 0..<inputs { a[index * inputs + place] = Float(signed * row[place]) }
            for place in 0..<outputs { b[place * rank + index] = Float(signed * column[place]) }
        }
        return (a, b)
    }

    /// QR of a column-major matrix: Q `[rows, p]`, R `[p, columns]`, p = min(rows, columns).
    private static func orthogonalized(
        _ matrix: [Double], rows: Int, columns: Int
    ) throws(KernelError) -> (q: [Double], r: [Double], p: Int) {
        let p = min(rows, columns)
        var (m, n, lda) = (Int32(rows), Int32(columns), Int32(rows))
        var (k, reflectors) = (Int32(p), Int32(p))
        var a = matrix
        var tau = [Double](repeating: 0, count: p)
        var (size, info): (Int32, Int32) = (-1, 0)
        var needed = 0.0
        dgeqrf_(&m, &n, &a, &lda, &tau, &needed, &size, &info)
        size = max(Int32(needed), n, 1)
        var work = [Double](repeating: 0, count: Int(size))
        dgeqrf_(&m, &n, &a, &lda, &tau, &work, &size, &info)
        try require(info == 0, .selfTest, "LAPACK's dgeqrf ended with \(info)")
        var r = [Double](repeating: 0, count: p * columns)
        for column in 0..<columns {
            for row in 0...min(column, p - 1) { r[column * p + row] = a[column * rows + row] }
        }
        a.removeLast((columns - p) * rows)
        size = Int32(work.count)
        var queried: Int32 = -1
        dorgqr_(&m, &k, &reflectors, &a, &lda, tau, &needed, &queried, &info)
        if Int(needed) > work.count {
            size = Int32(needed)
            work = [Double](repeating: 0, count: Int(size))
        }
        dorgqr_(&m, &k, &reflectors, &a, &lda, tau, &work, &size, &info)
        try require(info == 0, .selfTest, "LAPACK's dorgqr ended with \(info)")
        return (a, r, p)
    }

    /// Singular value decomposition of a column-major matrix, which is overwritten: U `[rows, count]`, the values, Vᵀ
    /// `[count, columns]`.
    private static func decomposed(
        _ matrix: inout [Double], rows: Int, columns: Int
    ) throws(KernelError) -> (left: [Double], values: [Double], right: [Double]) {
        let count = min(rows, columns)
        var (m, n) = (Int32(rows), Int32(columns))
        var (lda, ldu, ldvt) = (Int32(rows), Int32(rows), Int32(count))
        var values = [Double](repeating: 0, count: count)
        var left = [Double](repeating: 0, count: rows * count)
        var right = [Double](repeating: 0, count: count * columns)
        var integers = [Int32](repeating: 0, count: 8 * count)
        var (size, info): (Int32, Int32) = (-1, 0)
        var needed = 0.0
        var job = CChar(UInt8(ascii: "S"))
        dgesdd_(
            &job, &m, &n, &matrix, &lda, &values, &left, &ldu, &right, &ldvt, &needed, &size,
            &integers, &info, 1)
        size = Int32(max(1, needed))
        var work = [Double](repeating: 0, count: Int(size))
        dgesdd_(
            &job, &m, &n, &matrix, &lda, &values, &left, &ldu, &right, &ldvt, &work, &size,
            &integers, &info, 1)
        try require(info == 0, .selfTest, "LAPACK's dgesdd ended with \(info)")
        return (left, values, right)
    }
}
