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
/// One `Compute` serves one caller at a time; a fine-tune beside inference has its own on the same pool. Inside a
/// `pool.run` each thread may call operations: they then run inline on that thread, with scratch of its own.
///
/// `@unchecked Sendable`: the table of kernels is constant, the pool guards itself; see the rule above.
public final class Compute: @unchecked Sendable {
    public let pool: ThreadPool
    public let instructionSet: InstructionSet
    /// Where its time goes, while there is one.
    public var profile: ComputeProfile?
    let kernels: UnsafePointer<ck_kernels>
    private let arena: Arena

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
            arena = try Arena(threads: pool.threadCount)
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
        arena = try Arena(threads: pool.threadCount)
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

    /// Whether the caller is inside a `pool.run`.
    var isInsideRun: Bool { ck_inside_run() }

    /// Runs a kernel on all threads, or on the caller alone where waking the others would cost more than it saves.
    ///
    /// - Parameters:
    ///   - operation: What a profile counts it as; likewise `outputs`, `inputs` and `flops`.
    ///   - elements: About how many numbers are touched.
    func run(
        _ operation: ComputeOperation, _ task: ck_task?, _ arguments: UnsafeRawPointer,
        elements: Int = .max, outputs: Int = 0, inputs: Int = 0, flops: @autoclosure () -> Int = 0
    ) {
        guard let task else { return }
        timed(operation, outputs: outputs, inputs: inputs, flops: flops()) {
            if elements < 4096 { task(arguments, 0, 1) } else { pool.run(task, arguments) }
        }
    }

    /// Scratch for every thread of an operation; the kernels find it through the pointer.
    func threadScratch(_ byteCount: Int) throws(KernelError) -> OpaquePointer {
        try require(
            ck_arena_reserve(arena.handle, Int32(CK_SLOT_THREAD), byteCount), .memory,
            "no memory for \(byteCount) bytes of scratch a thread")
        return arena.handle
    }

    /// Scratch of an operation as a whole, valid until the next call.
    func sharedScratch(_ byteCount: Int, small: Bool = false) throws(KernelError)
        -> UnsafeMutableRawPointer
    {
        let slot = Int32(small ? CK_SLOT_SMALL : CK_SLOT_SHARED)
        guard let memory = ck_arena_own(arena.handle, slot, byteCount) else {
            throw KernelError(.memory, "no memory for \(byteCount) bytes of scratch")
        }
        return memory
    }
}

/// `@unchecked Sendable`: each thread touches its own memory only.
private final class Arena: @unchecked Sendable {
    let handle: OpaquePointer

    init(threads: Int) throws(KernelError) {
        guard let created = ck_arena_create(Int32(threads)) else {
            throw KernelError(.memory, "no memory for scratch of \(threads) threads")
        }
        handle = created
    }

    deinit { ck_arena_destroy(handle) }
}
