import Glibc
import Kernels
import ModelFiles

/// Cosines and sines of the rotary angles, one pair of tables for each different rotation of the model.
struct RopeTables: Sendable {
    struct Table: Sendable {
        /// `[positions, rotaryDimension / 2]`
        let cosine: Matrix
        let sine: Matrix
    }

    private let tables: [Table]
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

    /// nil for a layer that does not rotate.
    func table(layer: Int) -> Table? { tableOfLayer[layer].map { tables[$0] } }

    /// Angles are float32 products of position and inverse frequency, as transformers computes them.
    private static func table(_ rope: RopeConfig, positions: Int) throws -> Table {
        let frequencies = rope.inverseFrequencies
        let cosine = try Matrix(rows: positions, columns: frequencies.count)
        let sine = try Matrix(rows: positions, columns: frequencies.count)
        for position in 0..<positions {
            try cosine.withFloats(row: position) { cosines in
                try sine.withFloats(row: position) { sines in
                    for (index, frequency) in frequencies.enumerated() {
                        let angle = Float(position) * frequency
                        cosines[index] = cosf(angle)
                        sines[index] = sinf(angle)
                    }
                }
            }
        }
        return Table(cosine: cosine, sine: sine)
    }
}
