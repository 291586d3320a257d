import ArgumentParser
import Kernels
import LinuxSystem

/// `lora-worker verify CASE…`: computes reference cases and compares.
struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Compare the engine with reference cases.",
        discussion: """
            A case is a folder with model/, adapter/<variant>/, expected.safetensors, train.json and trained/, as \
            transformers and PEFT computed them. For each tensor the largest difference over the largest expected \
            value is printed. A folder with reference.json (examples/seedling) is trained from its text instead, and the \
            losses of all steps are compared. A folder with expected.json and train/run.json (a real chat model with a PEFT run) \
            needs the model by --model; texts, tokens, scores, the whole training run and the replies after it are compared. \
            Exit code 0: all within tolerance; 1: a case is not, or cannot be computed.
            """)

    enum Precision: String, ExpressibleByArgument, CaseIterable {
        case float32
        case bfloat16

        var elementType: Kernels.ElementType { self == .float32 ? .float32 : .bfloat16 }
    }

    @Argument(help: ArgumentHelp("Folders of reference cases.", valueName: "case"))
    var cases: [String]

    @Option(help: "Type of weights and activations: float32 or bfloat16.")
    var dtype = Precision.float32

    @Option(help: "Compute threads.")
    var threads = 0

    @Option(
        help:
            "For folders with reference.json: steps of each task. Rounding grows tenfold every few steps there."
    )
    var steps = 10

    @Option(
        help: ArgumentHelp(
            "For folders with expected.json: the model's Hugging Face folder.", valueName: "folder")
    )
    var model: String?

    @Flag(help: "Print every tensor, not only the worst of each group.")
    var verbose = false

    func validate() throws {
        guard (0...1024).contains(threads) else {
            throw ValidationError("--threads must be 0 (all cores) to 1024")
        }
        guard steps >= 1 else { throw ValidationError("--steps must be at least 1") }
    }

    func run() throws {
        let count = threads > 0 ? threads : max(1, HostResources.usableCPUs().count)
        let compute = try Compute(pool: ThreadPool(threads: count))
        print("\(dtype.rawValue), \(compute.instructionSet.rawValue) kernels, \(count) threads")
        var failures: [String] = []
        for path in cases {
            let report = VerificationReport(name: FilePath.name(of: path), verbose: verbose)
            do {
                if VerificationReference.isReference(path) {
                    try VerificationReference(
                        folder: path, elementType: dtype.elementType, compute: compute,
                        report: report, maximumSteps: steps
                    ).run()
                } else if VerificationModel.isReference(path) {
                    guard let model else {
                        throw ValidationError("\(path) needs its model: --model FOLDER")
                    }
                    let real = try VerificationModel(
                        folder: path, model: model, elementType: dtype.elementType,
                        compute: compute, report: report)
                    try real.run()
                    try VerificationModelTraining(real).run()
                } else {
                    try VerificationCase(
                        folder: path, elementType: dtype.elementType, compute: compute,
                        report: report
                    ).run()
                }
            } catch {
                report.refuse("\(error)")
            }
            report.finish()
            if !report.passed { failures.append(report.name) }
        }
        if failures.isEmpty { return }
        print("FAILED: \(failures.joined(separator: ", "))")
        throw ExitCode(1)
    }
}
