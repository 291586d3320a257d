import JSONModel
import LinuxSystem
import ModelFiles
import Tokenization
import Transformer
import WireProtocol
import WorkerRuntime

/// A merged model as `model.gguf`.
struct GGUFExport {
    static let fileName = "model.gguf"

    let model: LoadedModel
    let merged: MergedCheckpoint
    /// Of the matrices.
    let elementType: ModelFiles.ElementType
    let folder: String
    let context: JobContext

    private var path: String { folder + "/" + Self.fileName }

    /// - Returns: Bytes of the file.
    func write(name: String) throws -> Int {
        let (tokenizer, json) = try tokenizer()
        return try GGUFModelWriter.write(
            merged, config: merged.config, tokenizer: tokenizer, tokenizerJSON: json, name: name,
            elementType: elementType, to: path
        ) { done, total in
            try context.checkStop()
            context.task.report(
                done: Double(done), total: Double(total), unit: "bytes", message: "merging")
        }
    }

    /// The file's tensors as a base model would be made of them.
    func written() throws -> any TensorSource {
        try ModelSource.open(
            path, ggufElementType: elementType == .bfloat16 ? .bfloat16 : .float32
        ).tensors
    }

    /// What GGUF says of the tokenizer, and the `tokenizer.json` that goes along.
    private func tokenizer() throws -> (GGUFTokenizerData, [UInt8]?) {
        let prepared = model.prepared
        switch try prepared.tokenizer() {
        case .gguf(let data): return (data, nil)
        case nil:
            throw TaskFailure.user(
                "NO_TOKENIZER", "the base has no tokenizer, without which a GGUF file is of no use",
                hint: "export a Hugging Face folder")
        case .tokenizerJSON(let bytes):
            let settings = try prepared.tokenizerConfig()
            let unknown =
                settings?["unk_token"]?.string ?? settings?["unk_token"]?["content"]?.string
            let json: JSONValue
            do { json = try JSONValue.parse(bytes) } catch {
                throw TaskFailure.user("BAD_TOKENIZER", "tokenizer.json: \(error)")
            }
            let data = try GGUFTokenizerData(
                json: json, special: prepared.config.specialTokens, unknownToken: unknown,
                chatTemplate: prepared.chatTemplate(),
                vocabularySize: prepared.config.vocabularySize)
            return (data, bytes)
        }
    }

    var warnings: [String] {
        guard let (data, _) = try? tokenizer() else { return [] }
        var warnings: [String] = []
        if data.preTokenizer == GGUFTokenizerData.unknownPreTokenizer {
            warnings.append(
                "llama.cpp has no name for the way this tokenizer splits texts, and refuses the file; loraq reads the "
                    + "tokenizer.json that is in it")
        }
        let ends = merged.config.specialTokens.end.count
        if ends > 2 {
            warnings.append("\(ends) tokens end an answer; GGUF names the first two of them")
        }
        return warnings
    }
}
