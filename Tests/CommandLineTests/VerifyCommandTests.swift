import Foundation
import LinuxSystem
import Testing

/// Runs `lora-worker verify` on the reference cases of the engine's tests.
@Suite struct VerifyCommandTests {
    static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    static func fixture(_ name: String) -> String {
        root.appendingPathComponent("Tests/TransformerTests/Fixtures/\(name)").path
    }

    func verify(_ arguments: [String]) throws -> (status: Int32, output: String) {
        let path = FileManager.default.temporaryDirectory.path + "/verify-\(UUID().uuidString)"
        try DurableFile.write("", to: path)
        defer { try? DurableFile.removeTree(path) }
        let process = Process()
        process.executableURL = Self.root.appendingPathComponent(".build/release/lora-worker")
        process.arguments = ["verify"] + arguments
        process.standardOutput = FileHandle(forWritingAtPath: path)
        process.standardInput = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        return (
            process.terminationStatus, String(decoding: try FilePath.read(path), as: UTF8.self)
        )
    }

    @Test(arguments: ["float32", "bfloat16"]) func casesPass(_ dtype: String) throws {
        let result = try verify([Self.fixture("even"), Self.fixture("odd"), "--dtype", dtype])
        #expect(result.status == 0, "\(result.output)")
        #expect(result.output.contains("even  passed, 21 comparisons"))
        #expect(result.output.contains("odd  passed, 21 comparisons"))
    }

    /// Twelve steps of training included; made by transformers and PEFT as the others.
    @Test(arguments: [
        "mistral", "qwen2", "qwen3", "smollm3", "granite", "olmo2", "phi3", "gemma2", "gemma3",
        "gpt2",
    ])
    func familiesPass(_ family: String) throws {
        for dtype in ["float32", "bfloat16"] {
            let result = try verify([Self.fixture("families/\(family)"), "--dtype", dtype])
            #expect(result.status == 0, "\(result.output)")
            #expect(result.output.contains("\(family)  passed, 13 comparisons"))
        }
    }

    /// `attention_bias` and `mlp_bias`: paired and unpaired gates, DoRA, a residual multiplier, norms around the blocks.
    /// GPT-2 as its first checkpoints are, with other settings, DoRA, adapters on embedding and head, a saved head.
    /// YaRN; LongRoPE passing its original length, alone and with Phi-4-mini's other parts.
    /// Trained biases (`all`, `lora_only`) and trained DoRA, alone and together, by gradients and 12 steps.
    /// AdamW's ε is 1e-6 in gpt2-bias-all: a key's bias has the gradient 0 where nothing rotates, so that at 1e-8 its
    /// steps are rounding alone (PyTorch's float64 run is 2.4e-3 away from its float32 run there, and only there).
    @Test(arguments: [
        ("llama-bias", 15), ("granite-bias", 13), ("gemma3-bias", 13), ("gpt2-bare", 19),
        ("rope-yarn", 13), ("rope-longrope", 13), ("phi3-longrope", 15),
        ("gpt2-bias-all", 11), ("llama-dora", 13), ("gemma3-dora", 9),
    ])
    func variationsPass(_ name: String, _ comparisons: Int) throws {
        for dtype in ["float32", "bfloat16"] {
            let result = try verify([Self.fixture("families/\(name)"), "--dtype", dtype])
            #expect(result.status == 0, "\(result.output)")
            #expect(result.output.contains("\(name)  passed, \(comparisons) comparisons"))
        }
    }

    /// Embedding and head trained whole and by low-rank updates, on tied and untied bases, under a soft cap, multipliers and
    /// learned positions; a dropout, whose masks PyTorch was given.
    @Test(arguments: [
        "llama-saved", "llama-head", "gemma2-saved", "gemma2-head", "granite-embedding",
        "gpt2-saved", "llama-dropout", "phi3-dropout",
    ])
    func trainedEndsAndDropoutPass(_ name: String) throws {
        for dtype in ["float32", "bfloat16"] {
            let result = try verify([Self.fixture("families/\(name)"), "--dtype", dtype])
            #expect(result.status == 0, "\(result.output)")
            #expect(result.output.contains("\(name)  passed, 9 comparisons"))
        }
    }

    /// One number changed in the expected logits, or in an adapter, is found.
    @Test func aChangedCaseFails() throws {
        let folder = FileManager.default.temporaryDirectory.path + "/case-\(UUID().uuidString)"
        defer { try? DurableFile.removeTree(folder) }
        for file in ["expected.safetensors", "adapter/rslora/adapter_model.safetensors"] {
            try DurableFile.removeTree(folder)
            try FileManager.default.copyItem(atPath: Self.fixture("even"), toPath: folder)
            var bytes = try FilePath.read(folder + "/" + file)
            // The exponent of a float32 near the end of the data.
            bytes[bytes.count - 65] ^= 0x41
            try DurableFile.write(bytes, to: folder + "/" + file)
            let result = try verify([folder])
            #expect(result.status == 1)
            #expect(result.output.contains("ABOVE") || result.output.contains("REFUSED"))
        }
    }

    @Test func anotherFamilyIsRefusedByName() throws {
        let folder = FileManager.default.temporaryDirectory.path + "/family-\(UUID().uuidString)"
        defer { try? DurableFile.removeTree(folder) }
        try FileManager.default.copyItem(atPath: Self.fixture("even"), toPath: folder)
        let path = folder + "/model/config.json"
        let text = String(decoding: try FilePath.read(path), as: UTF8.self)
        try DurableFile.write(
            text.replacingOccurrences(
                of: "\"model_type\": \"llama\"", with: "\"model_type\": \"bloom\""), to: path)
        let result = try verify([folder, Self.fixture("odd")])
        #expect(result.status == 1)
        #expect(result.output.contains("bloom"))
        #expect(result.output.contains("odd  passed"))
    }
}
