import Kernels

/// The dropout before A (`lora_dropout`) of one pass: each module drops other numbers of the same input.
public struct InputDropout: Sendable {
    /// Of the rows; every module takes a stream of its own.
    public let rows: DropoutMask
    /// `[at least the rows, at least the widest input]`, element type of the products; overwritten.
    public let room: Matrix

    public init(rows: DropoutMask, room: Matrix) {
        self.rows = rows
        self.room = room
    }

    /// The key of one row: a function of nothing but these, so that packing and a resumed run change no mask.
    ///
    /// - Parameters:
    ///   - step: Of the optimizer, from 0.
    ///   - document: Number of the row of the training file in the step, from 0.
    ///   - position: Of the token in it.
    public static func key(seed: UInt64, step: Int, document: Int, position: Int) -> UInt64 {
        [step, document, position].reduce(seed) { key, part in
            DropoutMask.mixed(key &+ DropoutMask.increment &* (UInt64(part) + 1))
        }
    }

    /// The mask of one module: named by FNV-1a of its path.
    func mask(_ module: TrainableModule) -> DropoutMask {
        rows.stream(
            module.plan.module.path.utf8.reduce(0xCBF2_9CE4_8422_2325) {
                ($0 ^ UInt64($1)) &* 0x100_0000_01B3
            })
    }

    /// What is left of x for a module, in `room`.
    func dropped(_ x: Matrix, _ module: TrainableModule, _ compute: Compute) throws -> Matrix {
        let left = try room.rows(0..<x.rows).columns(0..<x.columns)
        try compute.dropOut(x, mask(module), into: left)
        return left
    }
}
