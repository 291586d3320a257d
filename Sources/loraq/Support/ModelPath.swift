import LinuxSystem

/// What a path must be to be a model, as far as the client can see; the worker looks deeper.
enum ModelPath {
    static func check(_ path: String) throws(ToolError) {
        guard FilePath.exists(path) else { throw ToolError.usage("there is no \(path)") }
        if FilePath.isDirectory(path) {
            guard FilePath.exists(path + "/config.json") else {
                throw ToolError.usage(
                    "\(path) holds no config.json",
                    hint:
                        "a model is a Hugging Face folder (config.json, *.safetensors, tokenizer.json) or a .gguf file"
                )
            }
            return
        }
        guard path.lowercased().hasSuffix(".gguf") else {
            throw ToolError.usage(
                "\(path) is neither a folder nor a .gguf file",
                hint: "for safetensors give the folder that holds config.json")
        }
    }
}
