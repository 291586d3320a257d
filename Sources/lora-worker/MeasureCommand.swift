import ArgumentParser
import Kernels
import LinuxSystem
import LoRA
import ModelFiles
import Transformer

/// `lora-worker measure FOLDER`: how fast this machine computes with a model.
struct MeasureCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "measure",
        abstract: "Measure training, prefill and decoding of a model folder on this machine.",
        discussion: """
            Random tokens; adapters of the given rank on all linears. Best and median of the rounds, tokens per second. \
            Machines drift: compare figures of one run only.
            """)

    @Argument(help: ArgumentHelp("Hugging Face folder of a base model.", valueName: "folder"))
    var folder: String

    @Option(help: "Type of weights and activations: float32 or bfloat16.")
    var dtype = VerifyCommand.Precision.bfloat16

    @Option(help: "Compute threads.")
    var threads = 0

    @Option(help: "Adapter rank.")
    var rank = 16

    @Option(help: "Rounds of each measurement.")
    var rounds = 5

    @Option(
        parsing: .upToNextOption,
        help: "What to measure: train, prefill, decode, adapters. All if left out.")
    var only: [String] = []

    func validate() throws {
        guard (0...1024).contains(threads) else {
            throw ValidationError("--threads must be 0 (all cores) to 1024")
        }
        guard (1...4096).contains(rank) else { throw ValidationError("--rank must be 1 to 4096") }
        guard (1...1000).contains(rounds) else {
            throw ValidationError("--rounds must be 1 to 1000")
        }
        let known = ["train", "prefill", "decode", "adapters"]
        if let other = only.first(where: { !known.contains($0) }) {
            throw ValidationError(
                "--only: there is no `\(other)`, only \(known.joined(separator: ", "))")
        }
    }

    func run() throws {
        let count = threads > 0 ? threads : max(1, HostResources.usableCPUs().count)
        let compute = try Compute(pool: ThreadPool(threads: count))
        let config = try ModelConfigReader.read(folder: folder)
        let decoder = try Decoder(
            config: config, source: CheckpointSource.open(folder: folder, config: config),
            elementType: dtype.elementType, compute: compute)
        print("\(dtype.rawValue), \(compute.instructionSet.rawValue) kernels, \(count) threads")
        let measurement = EngineMeasurement(
            decoder: decoder, compute: compute, rank: rank, rounds: rounds)
        func isWanted(_ name: String) -> Bool { only.isEmpty || only.contains(name) }
        if isWanted("train") { try measurement.train(rows: 4, length: 512) }
        if isWanted("prefill") { try measurement.prefill(length: 512) }
        if isWanted("decode") {
            for rows in [1, 4, 16, 32] {
                try measurement.decode(rows: rows, adapters: 0, context: 192)
            }
        }
        if isWanted("adapters") {
            for adapters in [0, 1, 8] {
                try measurement.decode(rows: 16, adapters: adapters, context: 192)
            }
        }
    }
}
