import Foundation
import Kernels
import LoRA
import ModelFiles
import Testing

@testable import Transformer

@Suite struct TrainingStepTests {
    func step(_ model: ReferenceModel, _ variant: String = "plain", rows: Int = 64) throws
        -> TrainingStep
    {
        try TrainingStep(
            decoder: model.decoder, adapter: model.adapter(variant), compute: model.compute,
            maximumRows: rows)
    }

    func count(_ labels: [[Int32]]) -> Int {
        labels.reduce(0) { $0 + $1.dropFirst().filter { $0 >= 0 }.count }
    }

    func gradients(_ step: TrainingStep) -> [String: [Float]] {
        var result: [String: [Float]] = [:]
        for tensor in step.tensors {
            result[tensor.name] = tensor.range.map { step.gradients[0, $0] }
        }
        return result
    }

    @Test(arguments: ["even", "odd"]) func gradientsAreThoseOfPyTorch(_ name: String) throws {
        let model = try ReferenceModel(name)
        let step = try step(model)
        let labels = try model.labels
        let result = try step.accumulate(
            tokens: model.ids.flatMap { $0 }, spanLengths: model.ids.map(\.count),
            labels: labels.flatMap { $0 }, lossWeight: 1 / Float(count(labels)))
        #expect(result.labelCount == count(labels))
        let loss = try model.expected.floats("loss")
        #expect(abs(Float(result.lossSum / Double(result.labelCount)) - loss[0]) <= 1e-4 * loss[0])
        for (tensor, values) in gradients(step) {
            let expected = try model.expected.floats("grad." + tensor)
            #expect(relativeError(values, expected) <= 1e-4, "\(tensor)")
        }
    }

    /// Along random directions the loss changes by what the gradient says.
    @Test(arguments: ["even", "odd"]) func gradientsAreDifferenceQuotients(_ name: String) throws {
        let model = try ReferenceModel(name)
        let step = try step(model)
        let tokens = model.ids.flatMap { $0 }
        let labels = try model.labels.flatMap { $0 }
        let lengths = model.ids.map(\.count)
        try step.accumulate(tokens: tokens, spanLengths: lengths, labels: labels, lossWeight: 1)
        let gradient = gradients(step)
        for tensor in step.tensors {
            let values = try #require(gradient[tensor.name])
            let start = tensor.range.map { step.parameters[0, $0] }
            let square = values.reduce(0) { $0 + Double($1) * Double($1) }
            let size = 3e-2 / square.squareRoot()
            var losses: [Double] = []
            for sign in [1.0, -1.0] {
                for (offset, index) in tensor.range.enumerated() {
                    step.parameters[0, index] =
                        start[offset] + Float(sign * size * Double(values[offset]))
                }
                try step.parametersChanged()
                losses.append(
                    try step.evaluate(tokens: tokens, spanLengths: lengths, labels: labels).lossSum)
            }
            for (offset, index) in tensor.range.enumerated() {
                step.parameters[0, index] = start[offset]
            }
            let quotient = (losses[0] - losses[1]) / (2 * size)
            #expect(abs(quotient / square - 1) <= 2e-2, "\(tensor.name): \(quotient) and \(square)")
        }
        try step.parametersChanged()
    }

    /// Packing rows, or accumulating them one by one, gives the same gradients.
    @Test(
        "KINDS 4: packing and accumulation agree with single rows",
        arguments: [Kernels.ElementType.float32, .bfloat16])
    func packingAndAccumulationAgree(_ type: Kernels.ElementType) throws {
        let model = try ReferenceModel("even", type)
        let step = try step(model)
        let labels = try model.labels
        try step.accumulate(
            tokens: model.ids.flatMap { $0 }, spanLengths: model.ids.map(\.count),
            labels: labels.flatMap { $0 }, lossWeight: 0.5)
        let packed = gradients(step)
        step.zeroGradients()
        for row in model.ids.indices {
            try step.accumulate(
                tokens: model.ids[row], spanLengths: [model.ids[row].count], labels: labels[row],
                lossWeight: 0.5)
        }
        for (tensor, values) in gradients(step) {
            #expect(relativeError(values, try #require(packed[tensor])) <= 1e-5, "\(tensor)")
        }
    }

    @Test func theFirstTokenOfASpanIsNeverPredicted() throws {
        let model = try ReferenceModel("even")
        let step = try step(model)
        let ids = model.ids[0]
        let alone = try step.evaluate(tokens: ids, spanLengths: [ids.count], labels: ids)
        #expect(alone.labelCount == ids.count - 1)
        let twice = try step.evaluate(
            tokens: ids + ids, spanLengths: [ids.count, ids.count], labels: ids + ids)
        #expect(twice.labelCount == 2 * (ids.count - 1))
        #expect(abs(twice.lossSum - 2 * alone.lossSum) <= 1e-4 * twice.lossSum)
    }

    @Test("KINDS 2: without labels nothing happens") func withoutLabelsNothingHappens() throws {
        let model = try ReferenceModel("even")
        let step = try step(model)
        let ids = model.ids[0]
        let result = try step.accumulate(
            tokens: ids, spanLengths: [ids.count],
            labels: [Int32](repeating: -100, count: ids.count),
            lossWeight: 1)
        #expect(result.labelCount == 0)
        #expect(gradients(step).values.allSatisfy { $0.allSatisfy { $0 == 0 } })
    }

    @Test func evaluationIsTheTrainingLoss() throws {
        for variant in ["plain", "some-layers"] {
            let model = try ReferenceModel("odd")
            let step = try step(model, variant)
            let labels = try model.labels.flatMap { $0 }
            let tokens = model.ids.flatMap { $0 }
            let lengths = model.ids.map(\.count)
            let trained = try step.accumulate(
                tokens: tokens, spanLengths: lengths, labels: labels, lossWeight: 1)
            let evaluated = try step.evaluate(tokens: tokens, spanLengths: lengths, labels: labels)
            #expect(trained.lossSum == evaluated.lossSum)
        }
    }

    /// Every lowest matrix that the backward pass can end at gives the gradients of the whole pass.
    @Test(arguments: ["q_proj", "o_proj", "up_proj", "down_proj"])
    func theBackwardPassMayEndAnywhere(_ target: String) throws {
        let model = try ReferenceModel("even")
        var config = LoRAConfig(rank: 4, alpha: 8, targets: .list([target]))
        config.layers = [1]
        func filled(_ config: LoRAConfig) throws -> Adapter {
            var adapter = try Adapter(new: config, for: model.decoder, seed: 1)
            for index in adapter.modules.indices {
                let path = adapter.modules[index].plan.module.path
                if path.contains("layers.1.") && path.hasSuffix(target) {
                    for element in adapter.modules[index].b.indices {
                        adapter.modules[index].b[element] = Float(element % 5 - 2) * 0.05
                    }
                }
            }
            return adapter
        }
        var every = config
        every.targets = .allLinear
        every.layers = nil
        let labels = try model.labels.flatMap { $0 }
        let few = try TrainingStep(
            decoder: model.decoder, adapter: filled(config), compute: model.compute, maximumRows: 64
        )
        let all = try TrainingStep(
            decoder: model.decoder, adapter: filled(every), compute: model.compute, maximumRows: 64)
        for step in [few, all] {
            try step.accumulate(
                tokens: model.ids.flatMap { $0 }, spanLengths: model.ids.map(\.count),
                labels: labels, lossWeight: 1)
        }
        let wanted = gradients(all)
        for (tensor, values) in gradients(few) {
            #expect(relativeError(values, try #require(wanted[tensor])) <= 1e-5, "\(tensor)")
        }
    }

    @Test func whatCannotBeTrainedIsNamed() throws {
        // A tied head.
        let model = try ReferenceModel("odd")
        let faults: [(word: String, change: (inout LoRAConfig) -> Void)] = [
            ("use_dora: training lm_head", { $0.usesDoRA = true }),
            (
                "leave one out",
                {
                    ($0.usesDoRA, $0.dropout) = (true, 0.1)
                    $0.targets = .list(["q_proj"])
                }
            ),
            (
                "ensure_weight_tying",
                {
                    $0.ensuresWeightTying = true
                    $0.savedModules = ["embed_tokens"]
                    $0.targets = .list(["q_proj"])
                }
            ),
        ]
        for (word, change) in faults {
            var config = LoRAConfig(rank: 2, alpha: 4, targets: .list(["q_proj", "lm_head"]))
            change(&config)
            let adapter = try Adapter(new: config, for: model.decoder, seed: 1)
            let error = #expect(throws: TransformerError.self) {
                try TrainingStep(
                    decoder: model.decoder, adapter: adapter, compute: model.compute,
                    maximumRows: 8, dropoutSeed: 1)
            }
            #expect(error?.code == .training)
            #expect(error?.message.contains(word) == true, "\(error?.message ?? "")")
        }
    }

    /// A dropout's masks follow from the step and the document's place in it, not from how documents are packed.
    @Test("KINDS 4: packing changes no mask of a dropout", arguments: ["llama", "phi3"])
    func masksDoNotDependOnPacking(_ family: String) throws {
        let model = try ReferenceModel("families/\(family)-dropout")
        func step(_ seed: UInt64?) throws -> TrainingStep {
            try TrainingStep(
                decoder: model.decoder, adapter: model.adapter("plain"), compute: model.compute,
                maximumRows: 64, dropoutSeed: seed)
        }
        let labels = try model.labels
        func packed(_ step: TrainingStep, _ number: Int) throws -> (Double, [Float]) {
            step.beginStep(number)
            let result = try step.accumulate(
                tokens: model.ids.flatMap { $0 }, spanLengths: model.ids.map(\.count),
                labels: labels.flatMap { $0 }, lossWeight: 0.5)
            return (result.lossSum, step.gradients.values)
        }
        let dropping = try step(5)
        let (loss, whole) = try packed(dropping, 3)
        dropping.beginStep(3)
        for row in model.ids.indices {
            try dropping.accumulate(
                tokens: model.ids[row], spanLengths: [model.ids[row].count], labels: labels[row],
                lossWeight: 0.5)
        }
        #expect(relativeError(dropping.gradients.values, whole) <= 1e-5)
        // The same step again, to the last bit; another step and another seed drop other numbers.
        #expect(try packed(dropping, 3) == (loss, whole))
        #expect(try packed(dropping, 4).0 != loss)
        #expect(try packed(step(6), 3).0 != loss)
        // Nothing is dropped without a seed, nor in an evaluation.
        let plain = try step(nil)
        let full = try packed(plain, 3).0
        #expect(full != loss)
        let evaluated = try dropping.evaluate(
            tokens: model.ids.flatMap { $0 }, spanLengths: model.ids.map(\.count),
            labels: labels.flatMap { $0 })
        #expect(abs(evaluated.lossSum - full) <= 1e-6 * full)
    }

    /// Values, gradients, moments and the packed form of every number of a whole matrix, and the logits of its rows.
    @Test func theEstimateCountsWholeMatrices() throws {
        let model = try ReferenceModel("families/gemma2-saved")
        func bytes(_ change: (inout LoRAConfig) -> Void, dropsOut: Bool = false) throws -> Int {
            var config = LoRAConfig(rank: 4, alpha: 8, targets: .list(["q_proj"]))
            change(&config)
            return TrainingStep.byteCount(
                config: model.decoder.config, plan: try AdapterPlan(config, for: model.decoder),
                rows: 64, elementType: .bfloat16, dropsOut: dropsOut)
        }
        let (plain, numbers) = (try bytes { _ in }, 96 * 32)
        #expect(try bytes { $0.savedModules = ["embed_tokens"] } >= plain + 18 * numbers)
        // Float32, capped and bf16 logits.
        #expect(
            try bytes { $0.savedModules = ["lm_head"] } >= plain + 18 * numbers + 10 * 64 * 96)
        #expect(try bytes({ _ in }, dropsOut: true) == plain + 2 * 64 * 64)
    }

    /// Values, gradients and both moments of every number that is trained beside A and B; the room for scaled columns.
    @Test func theEstimateCountsBiasesAndMagnitudes() throws {
        let model = try ReferenceModel("families/llama-bias")
        func bytes(_ change: (inout LoRAConfig) -> Void) throws -> (count: Int, numbers: Int) {
            var config = LoRAConfig(rank: 4, alpha: 8, targets: .allLinear)
            change(&config)
            let plan = try AdapterPlan(config, for: model.decoder)
            return (
                TrainingStep.byteCount(
                    config: model.decoder.config, plan: plan, rows: 64, elementType: .float32),
                plan.parameterCount
            )
        }
        let plain = try bytes { _ in }
        let biased = try bytes { $0.bias = .all }
        let scaled = try bytes { $0.usesDoRA = true }
        #expect(biased.numbers > plain.numbers && scaled.numbers > plain.numbers)
        #expect(biased.count >= plain.count + 16 * (biased.numbers - plain.numbers))
        let wide = 4 * 64 * 2 * model.decoder.config.intermediateSize
        #expect(scaled.count >= plain.count + 16 * (scaled.numbers - plain.numbers) + wide)
    }

    @Test func batchesAreChecked() throws {
        let model = try ReferenceModel("even")
        let step = try step(model, rows: 8)
        let nine = [Int32](repeating: 5, count: 9)
        for (tokens, lengths, labels) in [
            (nine, [9], nine), (Array(nine[..<4]), [3], Array(nine[..<4])),
            (Array(nine[..<4]), [4], Array(nine[..<3])),
            (Array(nine[..<4]), [4, 0], Array(nine[..<4])),
        ] {
            #expect(throws: TransformerError.self) {
                try step.accumulate(
                    tokens: tokens, spanLengths: lengths, labels: labels, lossWeight: 1)
            }
        }
    }

    @Test(arguments: [
        "odd", "families/llama-saved", "families/gemma2-saved", "families/gemma2-head",
        "families/granite-embedding",
    ])
    func aSnapshotServesAsTrained(_ name: String) throws {
        let model = try ReferenceModel(name)
        let step = try step(model)
        for index in 0..<step.parameters.columns { step.parameters[0, index] *= 1.5 }
        try step.parametersChanged()
        let served = try model.decoder.serve(step.adapter(), compute: model.compute)
        let pass = try model.pass()
        let logits = try pass.alone(model.ids[0], served)
        var loss = 0.0
        for row in 1..<model.ids[0].count {
            let line = logits[row - 1]
            let largest = line.max() ?? 0
            let sum = line.reduce(0.0) { $0 + Foundation.exp(Double($1 - largest)) }
            loss += Foundation.log(sum) + Double(largest - line[Int(model.ids[0][row])])
        }
        let evaluated = try step.evaluate(
            tokens: model.ids[0], spanLengths: [model.ids[0].count], labels: model.ids[0])
        #expect(abs(loss - evaluated.lossSum) <= 1e-5 * loss)
    }
}
