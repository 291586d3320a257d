import Glibc
import Kernels
import ModelFiles

/// Cosines and sines of the rotary angles, one pair of tables for each different rotation of the model.
struct RopeTables: Sendable {
    struct Table: Sendable {
        /// `[positions, pairs]`, the attention factor in them. Where longer sequences turn by other frequencies, theirs
        /// come below those of the short ones.
        let cosine: Matrix
        let sine: Matrix
        /// The longest sequence that uses the first rows, and how many these are; nil where all sequences do.
        let short: (limit: Int, rows: Int)?

        /// The rows of the tables for a batch.
        ///
        /// - Parameters:
        ///   - positions: Of each row of the batch in its sequence.
        ///   - lengths: Of each row's sequence.
        func rows(_ positions: [Int32], lengths: [Int32]) -> [Int32] {
            guard let short else { return positions }
            return zip(positions, lengths).map {
                Int($1) > short.limit ? $0 + Int32(short.rows) : $0
            }
        }
    }

    let tables: [Table]
    private let tableOfLayer: [Int?]
    let positions: Int

    /// - Parameter positions: The tables' length; no row may stand at or beyond it.
    init(_ config: ModelConfig, positions: Int) throws {
        var known: [RopeConfig] = []
        var tables: [Table] = []
        var indexes: [Int?] = []
        for layer in config.layers {
            guard let rope = layer.rope else {
                indexes.append(nil)
                continue
            }
            if let index = known.firstIndex(of: rope) {
                indexes.append(index)
                continue
            }
            indexes.append(tables.count)
            known.append(rope)
            tables.append(try Self.table(rope, positions: positions))
        }
        self.tables = tables
        tableOfLayer = indexes
        self.positions = positions
    }

    /// The index of a layer's table; nil for a layer that does not rotate.
    func index(layer: Int) -> Int? { tableOfLayer[layer] }

    /// Whether the rows of the tables depend on how long the sequences are.
    var dependsOnLength: Bool { tables.contains { $0.short != nil } }

    /// The rows for a batch in each table.
    func rows(_ positions: [Int32], lengths: [Int32]) -> [[Int32]] {
        tables.map { $0.rows(positions, lengths: lengths) }
    }

    private static func table(_ rope: RopeConfig, positions: Int) throws -> Table {
        let limit = rope.shortLimit.flatMap { $0 < positions ? $0 : nil }
        let shortRows = limit ?? positions
        let rows = limit == nil ? positions : shortRows + positions
        let cosine = try Matrix(rows: rows, columns: rope.pairCount)
        let sine = try Matrix(rows: rows, columns: rope.pairCount)
        try fill(cosine, sine, 0..<shortRows, rope.inverseFrequencies, rope.attentionFactor)
        if limit != nil {
            try fill(
                cosine, sine, shortRows..<rows, rope.longInverseFrequencies, rope.attentionFactor)
        }
        return Table(cosine: cosine, sine: sine, short: limit.map { ($0, shortRows) })
    }

    /// Angles are float32 products of position and inverse frequency, as transformers computes them.
    private static func fill(
        _ cosine: Matrix, _ sine: Matrix, _ rows: Range<Int>, _ frequencies: [Float],
        _ factor: Double
    ) throws {
        for (position, row) in rows.enumerated() {
            try cosine.withFloats(row: row) { cosines in
                try sine.withFloats(row: row) { sines in
                    for (index, frequency) in frequencies.enumerated() {
                        let angle = Float(position) * frequency
                        cosines[index] = cosf(angle) * Float(factor)
                        sines[index] = sinf(angle) * Float(factor)
                    }
                }
            }
        }
    }
}
