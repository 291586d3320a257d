import Datasets
import JSONModel
import Kernels
import LinuxSystem

/// The training loop: windows of rows to optimizer steps, with clipping, schedule, checkpoints and evaluation.
///
/// Loss and gradients of a step are sums over the labels of its whole window divided by their number, however the
/// window is laid out in batches. One thread calls `run`.
public final class FineTuneRun<Model: GradientStep> {
    /// After this many skipped steps in a row the run fails.
    public static var maximumConsecutiveSkips: Int { 5 }

    let model: Model
    let recipe: FineTuneRecipe
    let training: [TrainingExample]
    private let evaluation: [TrainingExample]
    private var schedule: LearningRateSchedule
    let plan: BatchPlan
    private let identity: RunIdentity
    private let store: CheckpointStore
    private let metrics: MetricsLog
    let compute: Compute
    let clock: () -> MonotonicTime
    private let rates: ((Int) -> Double)?
    /// Of `share_b`.
    private let shared: SharedFactors?

    var optimizer: AdamW
    var state = RunState()
    private var order: (epoch: Int, rows: [Int])?
    private var warnings: [String] = []
    /// How the peak rate came about, once the run has begun.
    public internal(set) var rateChoice: RateChoice
    /// What the range test of this attempt took.
    public internal(set) var searchSeconds = 0.0
    private var resumedFromStep: Int?

    public var totalSteps: Int { schedule.totalSteps }

    /// - Parameters:
    ///   - folder: The run's own folder; `checkpoints/` and `metrics.jsonl` are kept there between attempts.
    ///   - rate: The peak rate, where the recipe does not give it as a number; without effect for `find`.
    ///   - shared: What trains one B together.
    ///   - adapterConfig: `adapter_config.json`, to make each checkpoint a PEFT folder.
    ///   - rates: The learning rate by step (from 0), for runs that repeat a reference with a schedule of its own.
    /// - Throws: `FineTuneError.noLabels` if there is nothing to learn.
    public init(
        model: Model, recipe: FineTuneRecipe, training: [TrainingExample],
        evaluation: [TrainingExample] = [], identity: RunIdentity, folder: String,
        compute: Compute, rate: RateChoice? = nil, shared: SharedFactors? = nil,
        adapterConfig: [UInt8]? = nil, rates: ((Int) -> Double)? = nil,
        clock: @escaping () -> MonotonicTime = MonotonicTime.now
    ) throws {
        guard !training.isEmpty, training.allSatisfy({ $0.labelCount > 0 }) else {
            throw FineTuneError(.noLabels, "a training row without a label cannot be trained")
        }
        self.model = model
        self.recipe = recipe
        self.training = training
        self.evaluation = evaluation
        self.identity = identity
        self.compute = compute
        self.clock = clock
        self.rates = rates
        store = CheckpointStore(folder: folder + "/checkpoints", adapterConfig: adapterConfig)
        metrics = MetricsLog(path: folder + "/metrics.jsonl")
        plan = BatchPlan(
            exampleCount: training.count, batchSize: recipe.batchSize,
            accumulation: recipe.accumulation,
            shuffleSeed: recipe.shuffle ? recipe.dataSeed ?? recipe.seed : nil)
        let total = recipe.totalSteps(stepsPerEpoch: plan.stepsPerEpoch)
        guard
            let choice = rate ?? recipe.learningRate.map({ RateChoice(how: .given, rate: $0) })
                ?? (recipe.findsLearningRate ? RateChoice(how: .find, rate: 0) : nil)
        else {
            throw FineTuneError(.recipe, "auto needs a base model", field: "learning_rate")
        }
        rateChoice = choice
        self.shared = shared
        schedule = LearningRateSchedule(
            kind: recipe.scheduler, peak: choice.rate, warmupSteps: recipe.warmup(of: total),
            totalSteps: total)
        optimizer = try AdamW(model, compute: compute)
        let longest = (training + evaluation).map(\.tokens.count).max() ?? 0
        guard longest <= model.maximumRows else {
            throw FineTuneError(
                .compute,
                "a row of \(longest) tokens does not fit the \(model.maximumRows) of a pass")
        }
        do { try DurableFile.createDirectories(folder) } catch {
            throw FineTuneError(.checkpoint, "\(error)")
        }
    }

    /// Trains to the end, or until a stop is asked for.
    ///
    /// - Throws: `FineTuneError`; the last checkpoint stays usable.
    public func run(_ control: FineTuneControl = FineTuneControl()) throws -> FineTuneEnding {
        try resume()
        if let stop = try settleRate(control) { return .stopped(stop, step: 0) }
        let begun = clock()
        let earlierSeconds = state.seconds
        let earlierTokens = state.tokens
        func elapsed() -> Double { (clock() - begun).seconds }
        if state.step == 0, !evaluation.isEmpty, state.evalLossBefore == nil {
            switch try evaluate(control) {
            case .loss(let loss):
                state.evalLossBefore = loss
                try record(evalLoss: loss, control, rate: 0)
            case .stopped(let stop): return .stopped(stop, step: 0)
            }
        }
        let trainingBegun = clock()
        while state.step < schedule.totalSteps {
            if let stop = control.stopRequested() {
                try saveIfNew()
                return .stopped(stop, step: state.step)
            }
            let outcome = try trainStep(control)
            state.seconds = earlierSeconds + elapsed()
            let rate =
                Double(state.tokens - earlierTokens)
                / max(1e-9, (clock() - trainingBegun).seconds)
            try record(outcome, control, rate: rate)
            let isLast = state.step == schedule.totalSteps
            if let every = recipe.evalSteps, state.step % every == 0, !isLast, !evaluation.isEmpty,
                case .loss(let loss) = try evaluate(control)
            {
                try record(evalLoss: loss, control, rate: rate)
            }
            if state.step % recipe.saveSteps == 0 || isLast { try save() }
        }
        return try finish(control, trainedTokens: state.tokens - earlierTokens)
    }

    private func finish(
        _ control: FineTuneControl, trainedTokens: Int
    ) throws -> FineTuneEnding {
        guard state.optimizerStep > 0, let first = state.firstLoss, let last = state.lastLoss else {
            throw FineTuneError(
                .nonFinite,
                "every step had a loss or gradient that is not finite: nothing was learned")
        }
        var after: Double?
        if !evaluation.isEmpty {
            switch try evaluate(control) {
            case .loss(let loss):
                after = loss
                try record(evalLoss: loss, control, rate: 0)
            case .stopped(let stop): return .stopped(stop, step: state.step)
            }
        }
        if !state.skippedSteps.isEmpty {
            warnings.append(
                "steps left out because a loss or gradient was not finite: "
                    + state.skippedSteps.map(String.init).joined(separator: ", "))
        }
        return .finished(
            FineTuneSummary(
                steps: state.step, skippedSteps: state.skippedSteps,
                epochs: Double(state.step) / Double(plan.stepsPerEpoch), tokens: state.tokens,
                labels: state.labels, firstLoss: first, lastLoss: last,
                evalLossBefore: state.evalLossBefore, evalLossAfter: after, seconds: state.seconds,
                tokensPerSecond: Double(state.tokens) / max(1e-9, state.seconds),
                peakBytes: HostResources.peakResidentBytes(), rate: rateChoice,
                trainableParameters: model.trainedTensors.reduce(0) { $0 + $1.range.count }
                    - (shared?.copiedCount ?? 0),
                resumedFromStep: resumedFromStep, warnings: warnings))
    }

    // MARK: One step

    private enum StepOutcome {
        case trained(loss: Double, norm: Double, learningRate: Double, tokens: Int, labels: Int)
        case skipped(reason: String, learningRate: Double)
    }

    private func trainStep(_ control: FineTuneControl) throws -> StepOutcome {
        let number = state.step
        let rows = window(number)
        let labels = rows.reduce(0) { $0 + training[$1].labelCount }
        let rate = rates?(number) ?? schedule.rate(at: number)
        let (loss, norm, tokens) = try gradients(of: rows, step: number, control)
        state.step += 1
        state.tokens += tokens
        state.labels += labels
        guard loss.isFinite, norm.isFinite else {
            return try skip(
                number, rate,
                loss.isFinite ? "the gradient is not finite" : "the loss is not finite")
        }
        guard try update(rate: rate, peak: schedule.peak, norm: norm) else {
            throw FineTuneError(
                .nonFinite,
                "a weight became infinite or NaN at step \(number) with learning rate \(rate); "
                    + "lower the learning rate")
        }
        state.optimizerStep = optimizer.step
        state.consecutiveSkips = 0
        state.firstLoss = state.firstLoss ?? loss
        state.lastLoss = loss
        return .trained(loss: loss, norm: norm, learningRate: rate, tokens: tokens, labels: labels)
    }

    /// Sets the gradients of a window's mean loss.
    ///
    /// - Returns: The loss; the norm of the gradients before clipping; the window's tokens.
    func gradients(
        of rows: ArraySlice<Int>, step: Int, _ control: FineTuneControl
    ) throws -> (loss: Double, norm: Double, tokens: Int) {
        let labels = rows.reduce(0) { $0 + training[$1].labelCount }
        model.beginStep(step)
        var lossSum = 0.0
        var tokens = 0
        for packed in packedGroups(rows) {
            let result = try model.accumulate(
                tokens: packed.tokens, spanLengths: packed.spanLengths, labels: packed.labels,
                lossWeight: 1 / Float(labels))
            guard result.labelCount == packed.labelCount else {
                throw FineTuneError(
                    .compute,
                    "the model counted \(result.labelCount) labels where there are \(packed.labelCount)"
                )
            }
            lossSum += result.lossSum
            tokens += packed.tokens.count
            control.advanced(packed.tokens.count)
        }
        try shared?.gather(model.gradients)
        let norm = try compute.squaredNorm(model.gradients).squareRoot()
        try shared?.spread(model.gradients)
        return (lossSum / Double(labels), norm, tokens)
    }

    /// A window's rows, laid together for the model.
    func packedGroups(_ rows: ArraySlice<Int>) -> [PackedRows] {
        let groups = plan.groups(
            rows, lengths: { training[$0].tokens.count }, maximumTokens: model.maximumRows,
            packing: recipe.packing)
        let indexes = Array(rows)
        return groups.map { PackedRows(indexes[$0].lazy.map { self.training[$0] }) }
    }

    /// An optimizer step with the gradients at hand; false if a weight is not finite after it.
    func update(rate: Double, peak: Double, norm: Double) throws -> Bool {
        try optimizer.update(
            model, recipe: recipe, learningRate: rate, peak: peak,
            gradientScale: AdamW.clipping(norm: norm, maximum: recipe.maximumGradientNorm))
        guard try compute.squaredNorm(model.parameters).isFinite else { return false }
        try model.parametersChanged()
        return true
    }

    private func skip(_ number: Int, _ rate: Double, _ reason: String) throws -> StepOutcome {
        state.skippedSteps.append(number)
        state.consecutiveSkips += 1
        guard state.consecutiveSkips < Self.maximumConsecutiveSkips else {
            throw FineTuneError(
                .nonFinite,
                "\(reason) at step \(number) and the \(state.consecutiveSkips - 1) steps before it; "
                    + "lower the learning rate or look at the rows")
        }
        return .skipped(reason: reason, learningRate: rate)
    }

    func window(_ step: Int) -> ArraySlice<Int> {
        let epoch = step / plan.stepsPerEpoch
        if order?.epoch != epoch { order = (epoch, plan.order(epoch: epoch)) }
        return plan.window(step % plan.stepsPerEpoch, of: order?.rows ?? [])
    }

    // MARK: Evaluation

    private enum EvaluationOutcome {
        case loss(Double)
        case stopped(FineTuneStop)
    }

    /// Loss sum over all labels of the evaluation rows divided by their number.
    private func evaluate(_ control: FineTuneControl) throws -> EvaluationOutcome {
        let rows = Array(evaluation.indices)
        let plan = BatchPlan(
            exampleCount: rows.count, batchSize: rows.count, accumulation: 1, shuffleSeed: nil)
        var sum = 0.0
        var labels = 0
        let groups = plan.groups(
            rows[...], lengths: { evaluation[$0].tokens.count }, maximumTokens: model.maximumRows,
            packing: true)
        for group in groups {
            if let stop = control.stopRequested() { return .stopped(stop) }
            let packed = PackedRows(group.lazy.map { self.evaluation[$0] })
            let result = try model.evaluate(
                tokens: packed.tokens, spanLengths: packed.spanLengths, labels: packed.labels)
            sum += result.lossSum
            labels += result.labelCount
            control.advanced(packed.tokens.count)
        }
        guard labels > 0 else {
            throw FineTuneError(.noLabels, "no evaluation row has a label")
        }
        return .loss(sum / Double(labels))
    }

    // MARK: Checkpoints

    private func resume() throws {
        store.removeLeftovers()
        let (loaded, notes) = try store.newest(for: identity, tensors: model.trainedTensors)
        warnings += notes
        guard let loaded else {
            try metrics.truncate(after: -1, lastStep: schedule.totalSteps)
            return
        }
        try CheckpointStore.restore(loaded.parameters, into: model.parameters)
        try CheckpointStore.restore(loaded.moment1, into: optimizer.moment1)
        try CheckpointStore.restore(loaded.moment2, into: optimizer.moment2)
        try model.parametersChanged()
        state = loaded.state
        optimizer.step = state.optimizerStep
        resumedFromStep = state.step
        if let reason = loaded.identity.inexactness(identity) {
            warnings.append(
                "resumed from step \(state.step), but not to the same bits: \(reason)")
        }
        try metrics.truncate(after: state.step, lastStep: schedule.totalSteps)
    }

    func save() throws {
        try store.write(
            state, identity: identity, model: model, optimizer: optimizer, limit: recipe.savedLimit)
    }

    /// Takes a peak rate that the range test found, in this attempt or an earlier one.
    func use(_ curve: RateCurve) throws {
        let choice = try curve.choice()
        rateChoice = RateChoice(
            how: .find, rate: choice.rate, reason: choice.reason, curve: curve)
        schedule = LearningRateSchedule(
            kind: schedule.kind, peak: choice.rate, warmupSteps: schedule.warmupSteps,
            totalSteps: schedule.totalSteps)
        if let warning = choice.warning { warnings.append(warning) }
    }

    private func saveIfNew() throws {
        if store.steps().last != state.step { try save() }
    }

    // MARK: Reports

    private func record(
        _ outcome: StepOutcome, _ control: FineTuneControl, rate: Double
    ) throws {
        var progress = progress(.training, rate: rate)
        var line = JSONObject([
            ("step", .integer(Int64(state.step))), ("epoch", .number(progress.epoch)),
        ])
        switch outcome {
        case .trained(let loss, let norm, let learningRate, let tokens, let labels):
            progress.loss = loss
            progress.gradientNorm = norm
            progress.learningRate = learningRate
            line["loss"] = .number(loss)
            line["grad_norm"] = .number(norm)
            line["learning_rate"] = .number(learningRate)
            line["tokens"] = .integer(Int64(tokens))
            line["labels"] = .integer(Int64(labels))
        case .skipped(let reason, let learningRate):
            progress.learningRate = learningRate
            line["skipped"] = .string(reason)
            line["learning_rate"] = .number(learningRate)
        }
        line["seconds"] = .number(state.seconds)
        line["tokens_per_second"] = .number(rate)
        try metrics.append(.object(line))
        if state.step % recipe.loggingSteps == 0 || state.step == schedule.totalSteps {
            control.report(progress)
        }
    }

    private func record(
        evalLoss: Double, _ control: FineTuneControl, rate: Double
    ) throws {
        var progress = progress(.evaluating, rate: rate)
        progress.evalLoss = evalLoss
        try metrics.append([
            "step": .integer(Int64(state.step)), "epoch": .number(progress.epoch),
            "eval_loss": .number(evalLoss),
        ])
        control.report(progress)
    }

    private func progress(_ phase: FineTuneProgress.Phase, rate: Double) -> FineTuneProgress {
        FineTuneProgress(
            phase: phase, step: state.step, totalSteps: schedule.totalSteps,
            epoch: Double(state.step) / Double(plan.stepsPerEpoch),
            learningRate: schedule.rate(at: state.step), tokens: state.tokens,
            tokensPerSecond: rate)
    }
}
