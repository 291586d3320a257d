import ArgumentParser
import JSONModel
import Kernels
import LinuxSystem
import ModelFiles
import Tokenization
import Transformer

/// `lora-worker measure FOLDER`: how fast this machine computes with a model, beside what it could do at most.
struct MeasureCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "measure",
        abstract: "Measure training, prefill and decoding of a model folder on this machine.",
        discussion: """
            Random tokens; adapters of the given rank on all linears. The limit beside each figure is the larger of \
            two times: the work's floating-point operations at the machine's rate of products, and its bytes at the \
            rate at which the machine reads as many bytes as the weights have, both measured right before. Machines \
            drift: compare figures of one run only.
            """)

    @Argument(help: ArgumentHelp("Hugging Face folder of a base model.", valueName: "folder"))
    var folder: String

    @Option(help: "Type of weights and activations: float32 or bfloat16.")
    var dtype = VerifyCommand.Precision.bfloat16

    @Option(help: "Compute threads.")
    var threads = 0

    @Option(help: "Adapter rank.")
    var rank = 16

    @Option(help: "Rounds of each work.")
    var rounds = 5

    @Option(
        parsing: .upToNextOption,
        help: "What to measure: \(MeasuredWork.form). A usual choice if left out.",
        transform: { text in
            guard let work = MeasuredWork(argument: text) else {
                throw ValidationError("--work \(text): write \(MeasuredWork.form)")
            }
            return work
        })
    var work: [MeasuredWork] = MeasuredWork.usual

    @Flag(help: "Print where the time goes, operation by operation.")
    var phases = false

    @Flag(help: "Print one JSON object a line: first the machine, then each figure.")
    var json = false

    @Flag(
        help: ArgumentHelp(
            "Wait for a line on standard input before each round of all works, and end with its last.",
            discussion: "So that a benchmark can take turns with other programs. Implies --json."))
    var turns = false

    func validate() throws {
        guard (0...1024).contains(threads) else {
            throw ValidationError("--threads must be 0 (all cores) to 1024")
        }
        guard (1...4096).contains(rank) else { throw ValidationError("--rank must be 1 to 4096") }
        guard (1...1000).contains(rounds) else {
            throw ValidationError("--rounds must be 1 to 1000")
        }
    }

    func run() throws {
        let count = threads > 0 ? threads : max(1, HostResources.usableCPUs().count)
        let compute = try Compute(pool: ThreadPool(threads: count))
        let config = try ModelConfigReader.read(folder: folder)
        let decoder = try Decoder(
            config: config, source: CheckpointSource.open(folder: folder, config: config),
            elementType: dtype.elementType, compute: compute)
        let file = "\(folder)/tokenizer.json"
        let measurement = try EngineMeasurement(
            decoder: decoder, compute: compute, rank: rank, works: work,
            tokenizer: FilePath.exists(file) ? Tokenizer(contentsOf: file) : nil)
        let report = MeasurementReport(
            measurement: measurement, machine: try MachinePeak(compute, decoder: decoder),
            printsPhases: phases, printsJSON: json || turns)
        report.begin()
        if turns {
            while readLine() != nil {
                for index in work.indices { try report.round(index) }
            }
            return
        }
        for index in work.indices {
            for _ in 0..<rounds { try report.round(index) }
            report.finish(index)
        }
    }
}
