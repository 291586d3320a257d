import JSONModel
import LinuxSystem
import ModelFiles

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

    /// From a model's description of its tokenizer.
    public convenience init(_ source: TokenizerSource) throws(TokenizerError) {
        switch source {
        case .gguf(let data): try self.init(gguf: data)
        case .tokenizerJSON(let bytes):
            let json: JSONValue
            do {
                json = try JSONValue.parse(bytes)
            } catch {
                throw TokenizerError(.malformed, "tokenizer.json: \(error)")
            }
            try self.init(json: json)
        }
    }

    /// From a `tokenizer.json`, a compiled tokenizer, a GGUF file, or a folder that holds one.
    public convenience init(contentsOf path: String) throws(TokenizerError) {
        let path = try Self.file(at: path)
        do {
            if path.hasSuffix(".gguf") {
                guard let data = try GGUFTokenizerData(file: try GGUFFile(path: path)) else {
                    throw TokenizerError(.malformed, "there is no tokenizer in the file")
                }
                try self.init(gguf: data)
                return
            }
            let file = try MappedFile(path: path)
            if CompiledTokenizer.isCompiled(file) {
                try self.init(CompiledTokenizer.read(file))
                return
            }
            let json = try file.withUnsafeBytes { try JSONValue.parse($0) }
            if path.hasSuffix(Self.ggufForm) {
                try self.init(gguf: try GGUFTokenizerData(json: json, path: path))
            } else {
                try self.init(json: json)
            }
        } catch let error as TokenizerError {
            throw TokenizerError(error.code, "\(path): \(error.message)")
        } catch let error as SystemError {
            throw TokenizerError(.unreadable, "\(error)")
        } catch {
            throw TokenizerError(.malformed, "\(path): \(error)")
        }
    }

    /// The form in which a prepared model keeps the tokenizer of a GGUF file.
    private static let ggufForm = "tokenizer.gguf.json"

    private static func file(at path: String) throws(TokenizerError) -> String {
        guard FilePath.isDirectory(path) else { return path }
        let names = ["tokenizer.bin", "tokenizer.json", ggufForm]
        guard let name = names.first(where: { FilePath.exists(path + "/" + $0) }) else {
            throw TokenizerError(
                .unreadable, "\(path): there is no \(names.joined(separator: ", ")) in this folder")
        }
        return path + "/" + name
    }

    /// From the form that `compiledForm()` gives.
    public convenience init(compiled file: MappedFile) throws(TokenizerError) {
        try self.init(CompiledTokenizer.read(file))
    }

    /// A binary form that loads without parsing or hashing a vocabulary; see `CompiledTokenizer`.
    public func compiledForm() -> [UInt8] { CompiledTokenizer.write(definition) }
}
