import JSONModel
import LinuxSystem
import LoRA
import ModelFiles
import WireProtocol
import WorkerRuntime

/// `adapter`: registers adapters, and makes adapters out of adapters.
enum AdapterKind {
    static func run(_ context: JobContext) throws -> JobOutcome {
        guard case .adapter(let spec) = try context.spec() else {
            throw TaskFailure.user(.invalidSpec, "this is no spec of `adapter`")
        }
        switch spec {
        case .register(let spec): return try register(spec, context)
        case .merge(let spec): return try AdapterMerging.run(spec, context)
        case .export(let spec): return try AdapterExporting.run(spec, context)
        case .rebase(let spec): return try AdapterRebasing.run(spec, context)
        }
    }

    /// Checks a PEFT folder or a GGUF adapter whole against its base model and registers a copy of it.
    private static func register(
        _ spec: AdapterRegistration, _ context: JobContext
    ) throws -> JobOutcome {
        let model = try context.shelf.model(of: context.envelope)
        // Checked from the copy, so that nothing can change between the look and the use.
        let folder = copyFolder(in: try context.workdir())
        try DurableFile.removeTree(folder)
        let origin = try AdapterOrigin.read(spec.path)
        try origin?.check(spec, base: model.prepared.manifest.base.text)
        let (adapter, bytes) = try reading {
            let bytes =
                spec.path.hasSuffix(".gguf")
                ? try convert(spec.path, to: folder, model: model)
                : try copy(spec.path, to: folder)
            return (try AdapterFolder.read(folder, for: model.decoder), bytes)
        }
        let reference = ArtifactReference(model: spec.model.model, adapter: spec.name)
        let artifact = try artifact(
            adapter, reference, path: "adapter", bytes: bytes, model: model,
            more: origin?.meta ?? [])
        let result = AdapterResult(
            adapter: reference, digest: artifact.digest, rank: adapter.config.rank,
            alpha: adapter.config.alpha,
            targetModules: targetNames(adapter), parameters: parameterCount(adapter), bytes: bytes)
        return JobOutcome(result: try WireEncoder.encode(result), artifacts: [artifact])
    }

    /// Where what is to be registered is copied to.
    static func copyFolder(in workdir: String) -> String { workdir + "/adapter" }

    /// A file that is damaged here is the adapter's, not the model's.
    static func reading<T>(_ body: () throws -> T) throws -> T {
        do {
            return try body()
        } catch let error as ModelFileError {
            throw TaskFailure.user("BAD_ADAPTER", "\(error)")
        }
    }

    /// Writes a GGUF adapter as a PEFT folder; it is checked again from there, like any other.
    private static func convert(
        _ source: String, to folder: String, model: LoadedModel
    ) throws -> Int {
        guard FilePath.exists(source) else {
            throw TaskFailure.user("BAD_ADAPTER", "\(source): there is no such file")
        }
        let adapter = try GGUFAdapter.read(
            source, for: model.decoder, layout: GGUFAdapter.Layout(model.decoder.config))
        try AdapterFolder.write(adapter, to: folder)
        return try [AdapterLoader.weightsName, AdapterLoader.configName].reduce(0) {
            $0 + (try FilePath.size(of: "\(folder)/\($1)"))
        }
    }

    /// Copies PEFT's two files, byte for byte; what is missing is told by `AdapterFolder.read`.
    private static func copy(_ source: String, to folder: String) throws -> Int {
        guard FilePath.isDirectory(source) else {
            throw TaskFailure.user(
                "BAD_ADAPTER", "\(source): there is no such folder",
                hint: "give the folder that PEFT's save_pretrained wrote")
        }
        let names = [AdapterLoader.weightsName, AdapterLoader.configName]
        for name in names where !FilePath.exists("\(source)/\(name)") {
            let pickle = "\(source)/adapter_model.bin"
            throw TaskFailure.user(
                "BAD_ADAPTER", "\(source)/\(name) is missing",
                hint: name == AdapterLoader.weightsName && FilePath.exists(pickle)
                    ? "adapter_model.bin is a pickle, which can run code: load it with PEFT and save it anew with "
                        + "save_pretrained, which writes safetensors" : nil)
        }
        try DurableFile.createDirectories(folder)
        let origin = FilePath.exists("\(source)/\(AdapterOrigin.fileName)")
        return try (names + (origin ? [AdapterOrigin.fileName] : [])).reduce(0) {
            $0 + (try DurableFile.copy("\(source)/\($1)", to: "\(folder)/\($1)"))
        }
    }

    /// The record under which an adapter's folder is registered.
    static func artifact(
        _ adapter: Adapter, _ reference: ArtifactReference, path: String, bytes: Int,
        model: LoadedModel,
        more: [(key: String, value: JSONValue)] = []
    ) throws -> TaskResult.Artifact {
        guard let digest = BlobDigest(text: adapter.digest().text) else {
            throw TaskFailure(ErrorObject(.internalError, .internal, "the digest has no wire form"))
        }
        var meta: [(key: String, value: JSONValue)] = [
            ("base", .string(model.prepared.manifest.base.text)),
            ("rank", .integer(Int64(adapter.config.rank))),
            ("alpha", .number(adapter.config.alpha)),
            ("target_modules", .array(targetNames(adapter).map { .string($0) })),
            ("parameters", .integer(Int64(parameterCount(adapter)))),
        ]
        meta += more
        return TaskResult.Artifact(
            type: .adapter, name: reference, digest: digest, path: path, bytes: bytes,
            meta: .object(JSONObject(meta)))
    }

    static func parameterCount(_ adapter: Adapter) -> Int {
        adapter.tensors.reduce(0) { $0 + $1.values.count }
    }

    /// The last parts of the adapted matrices' paths, each once, in the model's order.
    static func targetNames(_ adapter: Adapter) -> [String] {
        var names: [String] = []
        for module in adapter.modules {
            let name = String(module.plan.module.name)
            if !names.contains(name) { names.append(name) }
        }
        return names
    }
}
