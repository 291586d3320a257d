import JSONModel
import LoraqClient

/// The measurements of a fine-tune in the order of its steps, as its worker wrote them to `metrics.jsonl`.
struct TrainingCourse: Equatable {
    struct Step: Equatable {
        var step: Int
        var epoch: Double?
        /// Nil where the step was left out.
        var loss: Double?
        var gradientNorm: Double?
        var learningRate: Double?
        var tokens: Int?
        /// Of training, since its first step.
        var seconds: Double?
        /// As the worker tells it: since its attempt began.
        var tokensPerSecond: Double?
        var skipped: String?
    }

    struct Evaluation: Equatable {
        var step: Int
        var loss: Double
        /// The lowest so far.
        var isBest: Bool
    }

    struct End: Equatable {
        var step: Int
        var reason: String
        var message: String
    }

    private(set) var steps: [Step] = []
    private(set) var evaluations: [Evaluation] = []
    private(set) var end: End?

    var isEmpty: Bool { steps.isEmpty && evaluations.isEmpty }
    var lastStep: Int { max(steps.last?.step ?? 0, evaluations.last?.step ?? 0) }
    /// The lowest among the evaluations after a step; of equal ones the first.
    private(set) var best: Evaluation?
    var lossPoints: [CurvePoint] {
        steps.compactMap { step in step.loss.map { CurvePoint(Double(step.step), $0) } }
    }
    var evaluationPoints: [CurvePoint] {
        evaluations.map { CurvePoint(Double($0.step), $0.loss) }
    }

    func points(_ figure: (Step) -> Double?) -> [CurvePoint] {
        steps.compactMap { step in figure(step).map { CurvePoint(Double(step.step), $0) } }
    }

    /// Takes a line in.
    ///
    /// - Returns: False for a line that cannot follow those before it: the run was resumed, and what it writes is to be read
    ///   from the beginning.
    mutating func add(_ line: JSONValue) -> Bool {
        guard let step = line["step"]?.integer, step >= 0 else { return false }
        if let reason = line["stopped"]?.string {
            end = End(step: step, reason: reason, message: line["message"]?.string ?? "")
            return true
        }
        if let loss = line["eval_loss"]?.double {
            guard step >= lastStep, evaluations.last?.step != step else { return false }
            let isBest = step > 0 && (best.map { loss < $0.loss } ?? true)
            let evaluation = Evaluation(step: step, loss: loss, isBest: isBest)
            evaluations.append(evaluation)
            if isBest { best = evaluation }
            return true
        }
        guard step > steps.last?.step ?? 0, step >= lastStep else { return false }
        steps.append(
            Step(
                step: step, epoch: line["epoch"]?.double, loss: line["loss"]?.double,
                gradientNorm: line["grad_norm"]?.double,
                learningRate: line["learning_rate"]?.double, tokens: line["tokens"]?.integer,
                seconds: line["seconds"]?.double,
                tokensPerSecond: line["tokens_per_second"]?.double,
                skipped: line["skipped"]?.string))
        return true
    }

    /// What an event of progress tells, for workers that write no file.
    mutating func add(progress: JSONValue) {
        guard let done = progress["done"]?.double, done >= 1, done < 1e15 else { return }
        let metrics = progress["metrics"]
        var line = JSONObject([(key: "step", value: .integer(Int64(done)))])
        for name in ["epoch", "loss", "grad_norm", "learning_rate", "tokens_per_second"] {
            line[name] = metrics?[name]
        }
        if metrics?["loss"] != nil { _ = add(.object(line)) }
        if let loss = metrics?["eval_loss"]?.double {
            _ = add(["step": .integer(Int64(done)), "eval_loss": .number(loss)])
        }
    }

    /// Tokens a second at each step, over the steps just before it; as the worker tells where it keeps no clock.
    var speedPoints: [CurvePoint] {
        let window = 8
        return steps.indices.compactMap { index in
            let first = max(0, index - window)
            if index > first, let begun = steps[first].seconds, let ended = steps[index].seconds,
                ended > begun
            {
                let tokens = steps[(first + 1)...index].reduce(0) { $0 + ($1.tokens ?? 0) }
                if tokens > 0 {
                    return CurvePoint(
                        Double(steps[index].step), Double(tokens) / (ended - begun))
                }
            }
            return steps[index].tokensPerSecond.map {
                CurvePoint(Double(steps[index].step), $0)
            }
        }
    }

    /// Seconds that `left` further steps would take at the pace of the last ones.
    func remainingSeconds(_ left: Int) -> Double? {
        let recent = steps.suffix(21)
        guard let first = recent.first, let last = recent.last, last.step > first.step,
            let begun = first.seconds, let ended = last.seconds, ended > begun, left > 0
        else { return nil }
        return (ended - begun) / Double(last.step - first.step) * Double(left)
    }
}

struct CurvePoint: Equatable {
    var x: Double
    var y: Double
    init(_ x: Double, _ y: Double) {
        self.x = x
        self.y = y
    }
}
