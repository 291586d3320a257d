import JSONModel
import ModelFiles
import Testing

@testable import FineTuning

@Suite struct RecipeTests {
    @Test func fieldsAreRead() throws {
        let recipe = try FineTuneRecipe([
            "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "learning_rate": 1e-3,
            "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 3,
            "num_train_epochs": 1.5, "max_steps": 9, "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 2, "max_grad_norm": 0.5, "weight_decay": 0.1,
            "adam_beta1": 0.8, "adam_beta2": 0.95, "adam_epsilon": 1e-6, "max_length": 128,
            "packing": false, "shuffle": false, "seed": 7, "train_on": "last",
            "logging_steps": 5, "eval_steps": 6, "save_steps": 7, "save_total_limit": 1,
            "dtype": "float32", "adapter": "m:a", "lora_dropout": 0.1,
            "modules_to_save": ["lm_head"], "bias": "lora_only",
            "use_dora": true,
        ])
        #expect(recipe.learningRate == 1e-3 && recipe.scheduler == .constantWithWarmup)
        #expect(recipe.maximumSteps == 9 && recipe.batchSize == 4 && recipe.accumulation == 2)
        #expect(recipe.trainedPart == .last && recipe.seed == 7 && !recipe.packing)
        #expect(recipe.adapterFields["r"] == 8 && recipe.startingAdapter == "m:a")
        #expect(try FineTuneRecipe(["learning_rate": "auto"]).learningRate == nil)
        let found = try FineTuneRecipe([
            "learning_rate": "find", "loraplus_lr_ratio": 16, "loraplus_lr_embedding": 1e-5,
            "share_b": true,
        ])
        #expect(found.learningRate == nil && found.findsLearningRate && found.sharesB)
        #expect(found.loraPlusRatio == 16 && found.loraPlusEmbeddingRate == 1e-5)
        #expect(try FineTuneRecipe(["assistant_only_loss": false]).trainedPart == .all)
        #expect(try FineTuneRecipe(["max_steps": .null]).maximumSteps == nil)
    }

    static let faults: [(recipe: JSONValue, field: String)] = [
        (["learning_rate": 0], "learning_rate"), (["learning_rate": "fast"], "learning_rate"),
        (["lr_scheduler_type": "polynomial"], "lr_scheduler_type"),
        (["optim": "sgd"], "optim"), (["max_steps": 0], "max_steps"),
        (["num_train_epochs": 0], "num_train_epochs"), (["warmup_ratio": 2], "warmup_ratio"),
        (["per_device_train_batch_size": 1.5], "per_device_train_batch_size"),
        (["packing": "yes"], "packing"), (["train_on": "user"], "train_on"),
        (["dtype": "int8"], "dtype"), (["leanring_rate": 1], "leanring_rate"),
        (["adam_beta1": 1], "adam_beta1"), (["neftune_noise_alpha": 5], "neftune_noise_alpha"),
        (["train_on": "all", "assistant_only_loss": true], "assistant_only_loss"),
        (["loraplus_lr_ratio": 0], "loraplus_lr_ratio"), (["share_b": "qkv"], "share_b"),
        (["loraplus_lr_embedding": 1e-5], "loraplus_lr_embedding"),
    ]

    @Test(arguments: faults)
    func faultNamesTheField(recipe: JSONValue, field: String) {
        let error = #expect(throws: FineTuneError.self) { _ = try FineTuneRecipe(recipe) }
        #expect(error?.code == .recipe)
        #expect(error?.field == field)
    }

    @Test func digestNamesWhatIsComputed() throws {
        let a = try FineTuneRecipe(["r": 8, "seed": 1])
        #expect(try FineTuneRecipe(["seed": 1, "r": 8]).digest == a.digest)
        #expect(try FineTuneRecipe(["seed": 1, "r": 8, "save_steps": 3]).digest == a.digest)
        #expect(try FineTuneRecipe(["seed": 2, "r": 8]).digest != a.digest)
        #expect(try FineTuneRecipe(["seed": 1, "r": 4]).digest != a.digest)
        for other: JSONValue in [
            ["seed": 1, "r": 8, "learning_rate": "find"], ["seed": 1, "r": 8, "share_b": true],
            ["seed": 1, "r": 8, "loraplus_lr_ratio": 2],
        ] { #expect(try FineTuneRecipe(other).digest != a.digest) }
    }
}

@Suite struct LearningRateScheduleTests {
    /// transformers' `get_scheduler` with 3 warm-up steps of 10.
    static let reference: [LearningRateSchedule.Kind: [Double]] = [
        .linear: [
            0, 0.333333333, 0.666666667, 1, 0.857142857, 0.714285714, 0.571428571, 0.428571429,
            0.285714286, 0.142857143, 0, 0,
        ],
        .cosine: [
            0, 0.333333333, 0.666666667, 1, 0.950484434, 0.811744901, 0.611260467, 0.388739533,
            0.188255099, 0.049515566, 0, 0.049515566,
        ],
        .constant: [Double](repeating: 1, count: 12),
        .constantWithWarmup: [0, 0.333333333, 0.666666667] + [Double](repeating: 1, count: 9),
    ]

    @Test(
        "KINDS 5: the rate of every step equals the closed form of transformers",
        arguments: LearningRateSchedule.Kind.allCases)
    func ratesEqualTransformers(kind: LearningRateSchedule.Kind) {
        let schedule = LearningRateSchedule(kind: kind, peak: 1, warmupSteps: 3, totalSteps: 10)
        for (step, expected) in (Self.reference[kind] ?? []).enumerated() {
            #expect(abs(schedule.rate(at: step) - expected) <= 1e-9)
        }
    }
}
