import JSONModel
import LinuxSystem

extension Tokenizer {
    /// From a parsed `tokenizer.json`.
    ///
    /// - Throws: `TokenizerError` naming the component that is wrong or not supported.
    public convenience init(json: JSONValue) throws(TokenizerError) {
        try self.init(TokenizerDefinition(json: json))
    }

    /// From what a GGUF file says of its tokenizer.
    public convenience init(gguf: GGUFTokenizerData) throws(TokenizerError) {
        try self.init(gguf.definition())
    }

    /// From a `tokenizer.json`, a compiled tokenizer, or a folder that holds one of them.
    public convenience init(contentsOf path: String) throws(TokenizerError) {
        var path = path
        if let inFolder = ["/tokenizer.bin", "/tokenizer.json"].map({ path + $0 }).first(where: {
            (try? MappedFile(path: $0)) != nil
        }) {
            path = inFolder
        }
        let file: MappedFile
        do {
            file = try MappedFile(path: path)
        } catch {
            throw TokenizerError(.unreadable, "\(error)")
        }
        if CompiledTokenizer.isCompiled(file) {
            try self.init(CompiledTokenizer.read(file))
            return
        }
        let json: JSONValue
        do {
            json = try file.withUnsafeBytes { bytes throws(JSONError) in
                try JSONValue.parse(bytes)
            }
        } catch {
            throw TokenizerError(.malformed, "\(path): \(error)")
        }
        do {
            try self.init(json: json)
        } catch {
            throw TokenizerError(error.code, "\(path): \(error.message)")
        }
    }

    /// From the form that `compiledForm()` gives.
    public convenience init(compiled file: MappedFile) throws(TokenizerError) {
        try self.init(CompiledTokenizer.read(file))
    }

    /// A binary form that loads without parsing or hashing a vocabulary; see `CompiledTokenizer`.
    public func compiledForm() -> [UInt8] { CompiledTokenizer.write(definition) }
}
