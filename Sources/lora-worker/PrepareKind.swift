import ChatTemplate
import JSONModel
import Kernels
import LinuxSystem
import ModelFiles
import Tokenization
import Transformer
import WireProtocol
import WorkerRuntime

/// `prepare`: a Hugging Face folder or a GGUF file becomes the private folder that workers map.
enum PrepareKind {
    static func run(_ context: JobContext) throws -> JobOutcome {
        guard case .prepare(let spec) = try context.spec() else {
            throw TaskFailure.user(.invalidSpec, "this is no spec of `prepare`")
        }
        let started = MonotonicTime.now()
        let folder = try context.workdir() + "/model"
        try DurableFile.removeTree(folder)
        let wanted: ModelFiles.ElementType? =
            switch spec.dtype {
            case .bfloat16: .bfloat16
            case .float32: .float32
            case nil: nil
            }
        let source = try ModelSource.open(spec.path, ggufElementType: wanted ?? .bfloat16)
        let compute = try Compute(pool: context.shelf.pool)
        let manifest = try ModelPreparation.prepare(
            source, into: folder, elementType: wanted, packer: PanelPacker(compute: compute)
        ) { progress in
            try context.checkStop()
            context.task.report(
                done: Double(progress.done), total: Double(progress.total),
                unit: progress.stage == .pack ? "bytes" : "tensors",
                message: progress.stage == .pack ? "packing" : "digesting")
        }
        var warnings = manifest.notes
        warnings += try compileTokenizer(
            source, into: folder, vocabularySize: manifest.vocabularySize)
        warnings += templateWarnings(source)
        let digest = artifactDigest(manifest)
        guard let wireDigest = BlobDigest(text: digest.text) else {
            throw TaskFailure(ErrorObject(.internalError, .internal, "the digest has no wire form"))
        }
        let bytes = try FilePath.entries(of: folder).reduce(0) {
            $0 + (try FilePath.size(of: "\(folder)/\($1)"))
        }
        let reference = ArtifactReference(model: spec.name)
        let result = PrepareResult(
            model: reference, digest: wireDigest, family: manifest.family.rawValue,
            parameters: manifest.parameterCount,
            dtype: manifest.elementType == .float32 ? .float32 : .bfloat16,
            bytes: bytes, seconds: (MonotonicTime.now() - started).seconds,
            hasTemplate: manifest.hasChatTemplate, contextLength: manifest.maximumPositions,
            warnings: warnings.isEmpty ? nil : warnings)
        let meta: JSONValue = [
            "base": .string(manifest.base.text), "family": .string(manifest.family.rawValue),
            "parameters": .integer(Int64(manifest.parameterCount)),
            "dtype": .string(result.dtype.rawValue),
            "context_length": .integer(Int64(manifest.maximumPositions)),
            "chat_template": .bool(manifest.hasChatTemplate), "source": .string(spec.path),
        ]
        return JobOutcome(
            result: try WireEncoder.encode(result), metrics: ["seconds": result.seconds],
            artifacts: [
                TaskResult.Artifact(
                    type: .model, name: reference, digest: wireDigest, path: "model", bytes: bytes,
                    meta: meta)
            ])
    }

    /// Writes the tokenizer in the form that loads in milliseconds.
    private static func compileTokenizer(
        _ source: ModelSource, into folder: String, vocabularySize: Int
    ) throws -> [String] {
        guard let description = source.tokenizer else { return [] }
        let tokenizer = try Tokenizer(description)
        try DurableFile.write(
            tokenizer.compiledForm(), to: folder + "/" + LoadedModel.compiledTokenizerName)
        if tokenizer.idCount < vocabularySize {
            return [
                "the embedding matrix has \(vocabularySize) rows, the tokenizer \(tokenizer.idCount) ids: the other "
                    + "\(vocabularySize - tokenizer.idCount) rows are padding"
            ]
        }
        guard tokenizer.idCount > vocabularySize else { return [] }
        return [
            "the tokenizer has \(tokenizer.idCount) ids, the embedding matrix \(vocabularySize) rows: texts that need "
                + "the ids beyond are refused"
        ]
    }

    private static func templateWarnings(_ source: ModelSource) -> [String] {
        guard let text = source.chatTemplate else { return [] }
        do {
            _ = try ConversationTemplate(source: text)
            return []
        } catch {
            return [
                "the chat template is not understood, so chat messages will be refused: \(error)"
            ]
        }
    }

    /// Names the whole folder: weights, configuration, tokenizer, template and layout.
    private static func artifactDigest(_ manifest: ModelManifest) -> ContentDigest {
        let files = manifest.files.filter { $0.digest != nil }.sorted { $0.name < $1.name }.map {
            JSONValue.array([.string($0.name), .string($0.digest?.text ?? "")])
        }
        let identity: JSONValue = [
            "base": .string(manifest.base.text), "dtype": .string(manifest.elementType.rawValue),
            "files": .array(files),
        ]
        return ContentDigest(of: identity.serialized(sortedKeys: true))
    }
}
