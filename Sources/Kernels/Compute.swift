import CKernels

/// Which kernels run. The numerics of the engine depend on it: other instructions, other last bits.
public enum InstructionSet: String, Sendable, CaseIterable {
    case avx512bf16
    case avx512
    case avx2
    case portable
    /// Plain loops with double sums: slow, for comparison.
    case reference
}

/// The operations of the engine, bound to a pool of threads and an instruction set.
///
/// Operations are grouped in extensions, one file each. Each operation reads and writes only the matrices it is given,
/// checks their shapes before it touches anything, allocates nothing but scratch that is kept and reused, and gives
/// the same bits for any number of threads and whatever other rows share the call.
///
/// One `Compute` serves one caller at a time: a fine-tune beside inference has its own.
///
/// `@unchecked Sendable`: the table of kernels is constant, the pool guards itself; see the rule above.
public final class Compute: @unchecked Sendable {
    public let pool: ThreadPool
    public let instructionSet: InstructionSet
    let kernels: UnsafePointer<ck_kernels>

    /// - Parameters:
    ///   - pool: The threads that share the work.
    ///   - instructionSet: nil: what `LORAQ_ISA` names, else the best this machine has.
    /// - Throws: `.instructionSet` when the set named is unknown or not available here.
    public init(pool: ThreadPool, instructionSet: InstructionSet? = nil) throws(KernelError) {
        let table = Compute.variants
        var wanted = instructionSet
        if wanted == nil { wanted = try Compute.environmentInstructionSet.get() }
        guard let wanted else {
            (self.instructionSet, kernels) = table[0]
            self.pool = pool
            return
        }
        guard let found = table.first(where: { $0.0 == wanted }) else {
            throw KernelError(
                .instructionSet,
                "this machine cannot run \(wanted.rawValue) kernels; it has "
                    + table.map(\.0.rawValue).joined(separator: ", "))
        }
        (self.instructionSet, kernels) = found
        self.pool = pool
    }

    /// The sets this machine can run, best first.
    public static var availableInstructionSets: [InstructionSet] { variants.map(\.0) }

    nonisolated(unsafe) private static let variants: [(InstructionSet, UnsafePointer<ck_kernels>)] =
        {
            var result: [(InstructionSet, UnsafePointer<ck_kernels>)] = []
            var entry = ck_variants()
            while let kernels = entry?.pointee {
                if let name = kernels.pointee.name,
                    let set = InstructionSet(rawValue: String(cString: name))
                {
                    result.append((set, kernels))
                }
                entry = entry?.advanced(by: 1)
            }
            return result
        }()

    /// What `LORAQ_ISA` says; read once.
    private static let environmentInstructionSet: Result<InstructionSet?, KernelError> = {
        guard let value = environmentValue("LORAQ_ISA"), !value.isEmpty else {
            return .success(nil)
        }
        guard let set = InstructionSet(rawValue: value) else {
            return .failure(
                KernelError(
                    .instructionSet,
                    "LORAQ_ISA is \"\(value)\"; it can be "
                        + InstructionSet.allCases.map(\.rawValue).joined(separator: ", ")))
        }
        return .success(set)
    }()

    func run(_ task: ck_task?, _ arguments: UnsafeRawPointer) {
        if let task { pool.run(task, arguments) }
    }

    /// Bytes of padding between regions of different threads.
    static func padded(_ byteCount: Int) -> Int { (byteCount + 255) / 256 * 256 }
}
