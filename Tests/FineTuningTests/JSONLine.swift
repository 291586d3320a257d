import JSONModel

/// A line of `metrics.jsonl`.
struct JSONLine: Equatable {
    let value: JSONValue

    init(_ bytes: [UInt8]) throws { value = try JSONValue.parse(bytes) }

    var step: Int? { value["step"]?.integer }
    var loss: Double? { value["loss"]?.double }
    var norm: Double? { value["grad_norm"]?.double }
    var rate: Double? { value["learning_rate"]?.double }
    var evalLoss: Double? { value["eval_loss"]?.double }
    var skipped: String? { value["skipped"]?.string }
}
