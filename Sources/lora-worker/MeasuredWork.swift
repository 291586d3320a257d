import ArgumentParser
import ModelFiles
import Transformer

/// One kind of work that `lora-worker measure` times, as its command line names it.
enum MeasuredWork: ExpressibleByArgument, Equatable {
    /// One step of LoRA training on so many rows of so many tokens, all labelled.
    case train(rows: Int, length: Int)
    /// A prompt's keys, values and last logits.
    case prefill(length: Int)
    /// Tokens after the first of so many streams, each through one of the adapters in turn.
    case decode(streams: Int, prompt: Int, tokens: Int, adapters: Int)

    static let form = "train:ROWSxLENGTH, prefill:LENGTH or decode:STREAMSxPROMPT+TOKENS[/ADAPTERS]"

    static let usual: [MeasuredWork] =
        [.train(rows: 4, length: 512), .prefill(length: 512)]
        + [1, 4, 16, 32].map { .decode(streams: $0, prompt: 128, tokens: 64, adapters: 0) }
        + [1, 8].map { .decode(streams: 16, prompt: 128, tokens: 64, adapters: $0) }

    init?(argument: String) {
        let parts = argument.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2 else { return nil }
        let numbers = parts[1].split(omittingEmptySubsequences: false) { "x+/".contains($0) }
            .compactMap { Int($0) }
        guard numbers.allSatisfy({ (0...1 << 20).contains($0) }) else { return nil }
        switch (parts[0], numbers.count) {
        case ("train", 2): self = .train(rows: numbers[0], length: numbers[1])
        case ("prefill", 1): self = .prefill(length: numbers[0])
        case ("decode", 3), ("decode", 4):
            self = .decode(
                streams: numbers[0], prompt: numbers[1], tokens: numbers[2],
                adapters: numbers.count == 4 ? numbers[3] : 0)
        default: return nil
        }
        // What was read must be what was written.
        guard name == argument || "\(name)/0" == argument else { return nil }
        switch self {
        case .train(let rows, let length): guard rows > 0, length > 1 else { return nil }
        case .prefill(let length): guard length > 0 else { return nil }
        case .decode(let streams, let prompt, let tokens, _):
            guard streams > 0, prompt > 0, tokens > 0 else { return nil }
        }
    }

    var name: String {
        switch self {
        case .train(let rows, let length): return "train:\(rows)x\(length)"
        case .prefill(let length): return "prefill:\(length)"
        case .decode(let streams, let prompt, let tokens, let adapters):
            let beginning = "decode:\(streams)x\(prompt)+\(tokens)"
            return adapters == 0 ? beginning : "\(beginning)/\(adapters)"
        }
    }

    /// Tokens that one round counts.
    var tokenCount: Int {
        switch self {
        case .train(let rows, let length): rows * length
        case .prefill(let length): length
        case .decode(let streams, _, let tokens, _): streams * tokens
        }
    }

    /// Positions that a sequence takes.
    var positions: Int {
        switch self {
        case .train(_, let length), .prefill(let length): length
        case .decode(_, let prompt, let tokens, _): prompt + tokens + 1
        }
    }

    var adapterCount: Int {
        switch self {
        case .train: 1
        case .prefill: 0
        case .decode(_, _, _, let adapters): adapters
        }
    }
}

/// What a piece of work needs at least, whoever does it.
struct WorkCost: Equatable {
    /// Floating-point operations of all matrix products and of attention.
    var flops = 0.0
    /// Bytes that must come from memory: weights once a pass, each sequence's keys and values once a token.
    var bytes = 0.0

    /// - Parameters:
    ///   - rank: Of adapters on all linears.
    ///   - elementBytes: Of weights, keys and values.
    init(_ work: MeasuredWork, _ config: ModelConfig, rank: Int, elementBytes: Int) {
        let size = Double(elementBytes)
        let layers = Double(config.layerCount)
        let hidden = Double(config.hiddenSize)
        let inner = Double(config.intermediateSize)
        let query = Double(config.queryWidth)
        let keyValue = Double(config.keyValueWidth)
        let gates = config.gatedFeedForward ? 2.0 : 1.0
        let projections = hidden * (query + 2 * keyValue)
        let linears = layers * (projections + query * hidden + (gates + 1) * inner * hidden)
        let head = Double(config.vocabularySize) * hidden
        // Inputs and outputs of all adapted matrices: r · (in + out) numbers each.
        let ends =
            layers
            * ((hidden + query) + 2 * (hidden + keyValue) + (query + hidden)
                + (gates + 1) * (hidden + inner))
        let lowRank = Double(rank) * ends
        func attention(_ pairs: Double) -> Double { 4 * layers * query * pairs }
        switch work {
        case .train(let rows, let length):
            let tokens = Double(rows * length)
            let pairs = Double(rows) * Double(length * (length + 1) / 2)
            // Forward, and backward to the inputs; low rank also to its own weights.
            flops = tokens * (4 * linears + 6 * lowRank)
            flops += 4 * Double(rows * (length - 1)) * head + 3.5 * attention(pairs)
            bytes = 2 * (linears + head) * size + 3 * 8 * lowRank
        case .prefill(let length):
            // Of the last layer only keys and values are needed for all tokens.
            let rest = (linears / layers) - 2 * hidden * keyValue
            flops = Double(length) * 2 * linears - Double(length - 1) * 2 * rest + 2 * head
            flops += attention(Double(length * (length + 1) / 2)) * (layers - 1) / layers
            bytes = (linears + head) * size
        case .decode(let streams, let prompt, let tokens, let adapters):
            let rows = Double(streams * tokens)
            let pairs = Double(streams) * Double(tokens * prompt + tokens * (tokens + 1) / 2)
            flops = 2 * rows * (linears + head) + attention(pairs)
            bytes = Double(tokens) * (linears + head) * size + 2 * layers * keyValue * pairs * size
            if adapters > 0 {
                flops += 2 * rows * lowRank
                bytes += Double(tokens * min(adapters, streams)) * lowRank * size
            }
        }
    }

    /// Seconds that no program can go below on a machine of these rates.
    func limit(flopsPerSecond: Double, bytesPerSecond: Double) -> Double {
        max(flops / flopsPerSecond, bytes / bytesPerSecond)
    }
}
