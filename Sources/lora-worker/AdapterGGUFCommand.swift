import ArgumentParser
import LinuxSystem
import LoRA
import ModelFiles
import Transformer

/// `lora-worker adapter-gguf ADAPTER MODEL OUT.gguf`: an adapter in llama.cpp's form.
struct AdapterGGUFCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "adapter-gguf",
        abstract: "Write a PEFT adapter as a GGUF file for llama.cpp.",
        discussion: """
            The scaling of all modules must be one alpha over their ranks (rsLoRA is written as the alpha of the same \
            scaling); DoRA and saved modules cannot be said in this form and are refused.
            """)

    @Argument(help: "A folder with adapter_config.json and adapter_model.safetensors.")
    var adapter: String
    @Argument(help: "The base model: a folder with config.json.") var model: String
    @Argument(help: "The file to make; it must not exist.") var output: String

    /// The base's modules by its configuration alone.
    private struct Modules: ModuleInventory {
        let config: ModelConfig
        var modules: [AdaptableModule] { Decoder.modules(of: config) }
        var hasTiedHead: Bool { config.tiedEmbeddings }
        func baseWeights(of path: String) throws -> [Float] {
            throw LoRAError(.base, "the base matrices are not at hand", subject: path)
        }
    }

    func run() throws {
        guard !FilePath.exists(output) else {
            throw ValidationError("\(output) exists; it is not overwritten")
        }
        let config = try ModelConfigReader.read(folder: model)
        let layout = try GGUFAdapter.Layout(config)
        let adapter = try AdapterFolder.read(
            adapter, for: Modules(config: config), checkingBase: false)
        try DurableFile.write(
            GGUFAdapter.bytes(adapter, layout: layout), to: output, mode: 0o644)
        print("\(output): \(adapter.modules.count) matrices of an adapter")
    }
}
