import JSONModel
import LinuxSystem
import ModelFiles

/// A PEFT adapter as a folder on disk: `adapter_config.json` and `adapter_model.safetensors`.
public enum AdapterFolder {
    /// Longest `adapter_config.json` that is read, in bytes.
    static let maximumConfigBytes = 4 << 20

    /// Reads and checks an adapter whole against its base model.
    ///
    /// - Parameter checkingBase: See `AdapterLoader.load`; false where registration has compared before.
    /// - Throws: `LoRAError` naming file, key or tensor; `ModelFileError` for a damaged weights file.
    public static func read(
        _ path: String, for inventory: some ModuleInventory, checkingBase: Bool = true
    ) throws -> Adapter {
        let config = try readConfig(path)
        let weights = path + "/" + AdapterLoader.weightsName
        guard FilePath.exists(weights) else {
            let pickle = path + "/adapter_model.bin"
            throw LoRAError(
                .file,
                FilePath.exists(pickle)
                    ? "\(pickle) is a pickle, which is not read; save the adapter as safetensors"
                    : "\(weights) is missing")
        }
        return try AdapterLoader.load(
            config: config, tensors: SafetensorsFile(path: weights), for: inventory,
            checkingBase: checkingBase)
    }

    /// Reads `adapter_config.json` alone.
    public static func readConfig(_ path: String) throws -> LoRAConfig {
        let file = path + "/" + AdapterLoader.configName
        let bytes: [UInt8]
        do { bytes = try FilePath.read(file, limit: maximumConfigBytes) } catch {
            throw LoRAError(.file, "\(error)")
        }
        let value: JSONValue
        do { value = try JSONValue.parse(bytes) } catch {
            throw LoRAError(.config, "\(file): \(error)")
        }
        return try LoRAConfig(parsing: value)
    }

    /// Writes the folder durably, as PEFT, transformers and vLLM read it: float32 tensors.
    ///
    /// The folder is made where it is missing; the config is written last, so that a folder with a config
    /// has its weights.
    public static func write(_ adapter: Adapter, to path: String) throws {
        do {
            try DurableFile.createDirectories(path)
            try SafetensorsWriter.write(
                adapter.tensors.map {
                    SafetensorsWriter.Tensor(name: $0.name, shape: $0.shape, floats: $0.values)
                }, to: path + "/" + AdapterLoader.weightsName)
            try DurableFile.write(
                adapter.config.peftObject().serialized(pretty: true, sortedKeys: true),
                to: path + "/" + AdapterLoader.configName)
        } catch let error as SystemError {
            throw LoRAError(.file, "\(error)")
        }
    }
}
