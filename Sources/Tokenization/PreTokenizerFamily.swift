import JSONModel

/// The pipeline that a GGUF pre-tokenizer name stands for, as the family's `tokenizer.json` has it.
struct PreTokenizerFamily {
    var normalizer: JSONValue?
    var preTokenizer: JSONValue
    var ignoresMerges = false
    var addsBOS = false

    private static let contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    private static let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
    private static let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#

    private static func cl100k(digits: String, marks: Bool = false) -> String {
        let letters = marks ? #"[\p{L}\p{M}]+"# : #"\p{L}+"#
        let others = marks ? #"[^\s\p{L}\p{M}\p{N}]+"# : #"[^\s\p{L}\p{N}]+"#
        return contractions + #"|[^\r\n\p{L}\p{N}]?"# + letters + "|" + digits + "| ?" + others
            + #"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
    }

    private static func caseClasses(digits: String, suffix: String) -> String {
        #"[^\r\n\p{L}\p{N}]?"# + upper + "*" + lower + "+" + suffix + #"|[^\r\n\p{L}\p{N}]?"#
            + upper + "+" + lower + "*" + suffix + "|" + digits
            + #"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
    }

    /// - Throws: `TokenizerError.unsupported` naming the pre-tokenizer.
    init(named name: String) throws(TokenizerError) {
        switch name {
        case "default", "gpt-2", "gpt2", "phi-2", "jina-es", "jina-de", "mpt", "olmo", "jais",
            "exaone":
            preTokenizer = Self.byteLevel(regex: true)
        case "smollm", "starcoder", "refact", "command-r", "codeshell", "granite":
            preTokenizer = [
                "type": "Sequence",
                "pretokenizers": [
                    ["type": "Digits", "individual_digits": true], Self.byteLevel(regex: true),
                ],
            ]
        case "llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral-bpe", "smaug-bpe":
            preTokenizer = Self.split(Self.cl100k(digits: #"\p{N}{1,3}"#))
            ignoresMerges = name != "smaug-bpe"
            addsBOS = name != "smaug-bpe"
        case "smollm3":
            preTokenizer = Self.split(Self.cl100k(digits: #"\p{N}{1,3}"#))
            ignoresMerges = true
        case "dbrx", "olmo2", "phi-4", "granite-4":
            preTokenizer = Self.split(Self.cl100k(digits: #"\p{N}{1,3}"#))
        case "qwen2", "deepseek-r1-qwen", "megrez", "hunyuan", "stablelm2", "kormo":
            normalizer = ["type": "NFC"]
            preTokenizer = Self.split(Self.cl100k(digits: #"\p{N}"#))
        case "qwen35":
            normalizer = ["type": "NFC"]
            preTokenizer = Self.split(Self.cl100k(digits: #"\p{N}"#, marks: true))
        case "tekken":
            preTokenizer = Self.split(Self.caseClasses(digits: #"\p{N}"#, suffix: ""))
            ignoresMerges = true
            addsBOS = true
        case "gpt-4o", "o200k", "phi-4-mini":
            preTokenizer = Self.split(
                Self.caseClasses(digits: #"\p{N}{1,3}"#, suffix: Self.contractions + "?"))
        default:
            throw TokenizerError(
                .unsupported,
                "tokenizer.ggml.pre \"\(name)\" is not supported; use the model's folder with its "
                    + "tokenizer.json instead")
        }
    }

    private static func byteLevel(regex: Bool) -> JSONValue {
        ["type": "ByteLevel", "add_prefix_space": false, "use_regex": .bool(regex)]
    }

    private static func split(_ expression: String) -> JSONValue {
        [
            "type": "Sequence",
            "pretokenizers": [
                [
                    "type": "Split", "pattern": ["Regex": .string(expression)],
                    "behavior": "Isolated", "invert": false,
                ],
                byteLevel(regex: false),
            ],
        ]
    }
}
