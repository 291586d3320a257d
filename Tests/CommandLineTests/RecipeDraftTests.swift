import JSONModel
import Testing
import WireProtocol

@testable import loraq

@Suite struct RecipeDraftTests {
    private func read(_ yaml: String) throws -> JSONValue {
        var draft = try RecipeDraft(file: nil, settings: [])
        try draft.read(yaml: yaml, named: "r.yaml")
        return draft.json
    }

    private func fault(_ yaml: String) -> String {
        do {
            return "accepted: \(try read(yaml).text())"
        } catch {
            return "\(error)"
        }
    }

    private func fault(setting: String) -> String {
        do throws(ToolError) {
            return "accepted: \(try RecipeDraft(file: nil, settings: [setting]).json.text())"
        } catch {
            return error.message
        }
    }

    @Test func valuesHaveTheTypesOfTheirFields() throws {
        let recipe = try read(
            """
            # comments are fine
            r: 8
            lora_alpha: 16
            target_modules: [q_proj, v_proj]
            use_rslora: yes
            rank_pattern: {q_proj: 4}
            layers_to_transform: [0, 2]
            learning_rate: 2e-4
            lr_scheduler_type: cosine
            num_train_epochs: 1.5
            seed: 1_000
            """)
        #expect(
            recipe == [
                "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"],
                "use_rslora": true, "rank_pattern": ["q_proj": 4],
                "layers_to_transform": [0, 2], "learning_rate": 0.0002,
                "lr_scheduler_type": "cosine", "num_train_epochs": 1.5, "seed": 1000,
            ])
    }

    @Test func settingsWinOverTheFileInOrder() throws {
        var draft = try RecipeDraft(
            file: nil, settings: ["r=4", "target_modules=q_proj,v_proj", "r=2", "packing=true"])
        #expect(draft.json == ["r": 2, "target_modules": ["q_proj", "v_proj"], "packing": true])
        draft = try RecipeDraft(file: nil, settings: ["target_modules=all-linear"])
        #expect(draft.json == ["target_modules": "all-linear"])
        draft = try RecipeDraft(
            file: nil, settings: ["target_modules=.*\\.(q|v)_proj", "rank_pattern={q_proj: 4}"])
        #expect(
            draft.json == ["target_modules": ".*\\.(q|v)_proj", "rank_pattern": ["q_proj": 4]])
    }

    @Test func unknownFieldsAreNamedWithFileAndLine() {
        #expect(
            fault("r: 8\nlearning_rat: 1e-4")
                == "r.yaml:2: unknown recipe field `learning_rat`; did you mean `learning_rate`?")
        #expect(
            fault("lr: 1e-4")
                == "r.yaml:1: unknown recipe field `lr`; did you mean `learning_rate`?")
        #expect(
            fault("max_seq_length: 512")
                == "r.yaml:1: unknown recipe field `max_seq_length`; did you mean `max_length`?")
        #expect(fault("\n\nxyzzy: 1") == "r.yaml:3: unknown recipe field `xyzzy`")
        #expect(
            fault("bf16: true")
                == "r.yaml:1: `bf16` is not a recipe field here: set dtype: bfloat16 (the default)")
        #expect(
            fault(setting: "lora_aplha=3")
                == "--set lora_aplha=3: unknown recipe field `lora_aplha`; did you mean `lora_alpha`?"
        )
    }

    @Test(arguments: [
        ("r: 0", "`r` must be a whole number from 1 to 4,096, not `0`"),
        ("r: 8.5", "`r` must be a whole number from 1 to 4,096, not `8.5`"),
        ("r: \"8\"", "`r` must be a whole number from 1 to 4,096, not `8`"),
        ("r:", "`r` must be a whole number from 1 to 4,096, not nothing"),
        ("r: [8]", "`r` must be a whole number from 1 to 4,096, not a list"),
        ("learning_rate: fast", "`learning_rate` must be a number above 0 or auto, not `fast`"),
        ("weight_decay: -1", "`weight_decay` must be a number of at least 0, not `-1`"),
        (
            "warmup_ratio: 2",
            "`warmup_ratio` must be a number of at least 0 and at most 1.000, not `2`"
        ),
        ("use_rslora: 1", "`use_rslora` must be true or false, not `1`"),
        (
            "lr_scheduler_type: cosin",
            "`lr_scheduler_type` must be one of linear, cosine, constant, constant_with_warmup, "
                + "not `cosin`; did you mean `cosine`?"
        ),
        (
            "lora_dropout: 1.5",
            "`lora_dropout` must be a number of at least 0 and at most 1.000, not `1.5`"
        ),
        (
            "target_modules: []",
            "`target_modules` must be a list with at least one module, not a list"
        ),
        (
            "rank_pattern: 4",
            "`rank_pattern` must be a mapping of module patterns to ranks, not `4`"
        ),
        ("learning_rate: .nan", "`learning_rate` must be a number above 0 or auto, not `.nan`"),
    ])
    func wrongValuesAreNamed(yaml: String, message: String) {
        #expect(fault(yaml) == "r.yaml:1: \(message)")
    }

    @Test func whatIsNoMappingIsRefused() throws {
        #expect(
            fault("- r\n- 8").contains("a recipe is a mapping of names to values, this is a list"))
        #expect(fault("r: [8").contains("not YAML"))
        #expect(fault("r: 8\nr: 9").contains("r"))
        #expect(!fault("r: 8\nr: 9").hasPrefix("accepted"))
        #expect(try read("") == [:])
        #expect(try read("# nothing but a comment\n") == [:])
    }

    @Test func settingsNeedAnEqualsSign() {
        #expect(fault(setting: "r") == "--set r: expected name=value")
        #expect(fault(setting: "=3") == "--set =3: expected name=value")
        #expect(fault(setting: "r=").hasPrefix("--set r=: `r` must be a whole number"))
    }

    @Test func theFieldsAreThoseOfTheWire() {
        let mine = Set(RecipeFields.all.map(\.name))
        let wire = Set(Recipe.names)
        #expect(wire.subtracting(mine).isEmpty)
        #expect(mine.subtracting(wire).subtracting(["train_on"]).isEmpty)
        #expect(mine.isDisjoint(with: RecipeFields.otherNames.keys))
        #expect(mine.isDisjoint(with: RecipeFields.elsewhere.keys))
        #expect(RecipeFields.otherNames.values.allSatisfy(mine.contains))
    }

    @Test func aBareAdapterIsOneOfTheModel() throws {
        let draft = try RecipeDraft(file: nil, settings: ["adapter=a", "r=8"])
        #expect(try draft.checked(model: "tiny@2") == ["adapter": "tiny:a", "r": 8])
        #expect(throws: ToolError.self) {
            try RecipeDraft(file: nil, settings: ["adapter=../x"]).checked(model: "tiny")
        }
    }
}

@Suite struct SuggestionTests {
    @Test func distances() {
        #expect(Suggestion.distance("", "abc") == 3)
        #expect(Suggestion.distance("abc", "abc") == 0)
        #expect(Suggestion.distance("lora_aplha", "lora_alpha") == 1)
        #expect(Suggestion.distance("kitten", "sitting") == 3)
    }

    @Test func onlySlipsAreCorrected() {
        #expect(Suggestion.nearest(to: "packign", among: ["packing", "seed"]) == "packing")
        #expect(Suggestion.nearest(to: "xyzzy", among: ["packing", "seed"]) == nil)
    }
}
