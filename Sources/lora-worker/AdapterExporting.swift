import JSONModel
import Kernels
import LinuxSystem
import LoRA
import ModelFiles
import Transformer
import WireProtocol
import WorkerRuntime

/// `adapter` with `export`: the merged model as a Hugging Face folder or as GGUF, and how far it is from the unmerged one.
///
/// The folder is written beside its target and renamed when it is whole. It names the job, so that an attempt that was killed
/// between the rename and its result finds its own work and does it again.
struct AdapterExporting {
    /// Says what the folder holds; the files that transformers reads know nothing of it.
    static let noteName = "loraq-merge.json"

    let spec: AdapterExport
    let context: JobContext
    let model: LoadedModel
    let artifact: TaskEnvelope.Artifact

    static func run(_ spec: AdapterExport, _ context: JobContext) throws -> JobOutcome {
        let model = try context.shelf.model(of: context.envelope)
        let artifact = try AdapterMerging.artifact(spec.adapter, context, base: model)
        return try AdapterExporting(spec: spec, context: context, model: model, artifact: artifact)
            .run()
    }

    private var partial: String {
        "\(FilePath.parent(of: spec.path))/.\(FilePath.name(of: spec.path)).\(context.envelope.job.text)"
    }

    private func run() throws -> JobOutcome {
        let started = MonotonicTime.now()
        try claimTarget()
        let adapter = try AdapterFolder.read(artifact.path, for: model.decoder, checkingBase: false)
        let prepared = model.prepared
        let type: ModelFiles.ElementType =
            switch spec.dtype {
            case .bfloat16: .bfloat16
            case .float16: .float16
            case .float32: .float32
            case nil: prepared.packed.elementType
            }
        let merged = try MergedCheckpoint(
            base: PackedCheckpoint(config: prepared.config, packed: prepared.packed),
            config: prepared.config,
            configJSON: JSONFile.read(prepared.folder + "/" + PreparedFileName.config),
            // What is rounded to float16 is rounded once, when it is written.
            adapter: adapter, elementType: type == .float16 ? .float32 : type,
            products: FloatProducts(threads: context.shelf.pool.threadCount))
        try DurableFile.createDirectories(partial, mode: 0o755)
        do {
            let export = GGUFExport(
                model: model, merged: merged, elementType: type, folder: partial, context: context)
            let isGGUF = spec.format == .gguf
            let bytes = try isGGUF ? export.write(name: artifact.name.text) : write(merged)
            let drift = try context.inputIfAny("prompts").map { prompts in
                let stored =
                    try isGGUF
                    ? export.written()
                    : CheckpointSource.open(folder: partial, config: merged.config)
                return try DriftReport(
                    model: model, merged: merged, stored: stored, adapter: adapter,
                    prompts: prompts, context: context
                ).run()
            }
            let result = ExportResult(
                adapter: artifact.name.pinned(to: artifact.version), path: spec.path,
                dtype: type == .float32 ? .float32 : type == .float16 ? .float16 : .bfloat16,
                format: spec.format, bytes: bytes,
                matrices: merged.changedNames.count, untiedHead: merged.isUntied,
                seconds: (MonotonicTime.now() - started).seconds, drift: drift?.drift,
                warnings: nonEmpty(
                    (isGGUF ? export.warnings : warnings) + (drift?.warnings ?? [])))
            try finish(result)
            return JobOutcome(
                result: try WireEncoder.encode(result),
                metrics: ["seconds": result.seconds].merging(Self.metrics(result.drift)) { $1 })
        } catch {
            try? DurableFile.removeTree(partial)
            throw error
        }
    }

    private func nonEmpty(_ texts: [String]) -> [String]? { texts.isEmpty ? nil : texts }

    private static func metrics(_ drift: ExportResult.Drift?) -> [String: Double] {
        guard let drift else { return [:] }
        return [
            "nll_merged": drift.nll.merged, "nll_unmerged": drift.nll.unmerged,
            "max_logit_difference": drift.merged.maximum, "rms_logit_difference": drift.merged.rms,
        ]
    }

    /// Refuses a target that is there already, unless an earlier attempt of this very job put it there.
    private func claimTarget() throws {
        let parent = FilePath.parent(of: spec.path)
        guard FilePath.isDirectory(parent) else {
            throw TaskFailure.user(
                .invalidSpec, "spec.path: there is no folder \(parent)",
                hint: "the path is written by the broker's machine, as the broker's user")
        }
        try DurableFile.removeTree(partial)
        guard FilePath.exists(spec.path) else { return }
        let note = spec.path + "/" + Self.noteName
        let job =
            FilePath.exists(note) ? (try? JSONFile.read(note))?["job"]?.string : nil
        guard job == context.envelope.job.text else {
            throw TaskFailure.user(
                .invalidSpec, "spec.path: \(spec.path) exists; it is not overwritten",
                hint: "give the name of a new folder")
        }
        try DurableFile.removeTree(spec.path)
    }

    /// Weights and the small files beside them; bytes in all.
    private func write(_ merged: MergedCheckpoint) throws -> Int {
        let stored = try CheckpointSource.stored(merged, config: merged.config)
        var bytes = try SafetensorsStreamWriter.write(
            stored.tensors, from: stored, to: partial + "/model.safetensors"
        ) { done, total in
            try context.checkStop()
            context.task.report(
                done: Double(done), total: Double(total), unit: "bytes", message: "merging")
        }
        let config = merged.configJSON.serialized(pretty: true) + [10]
        try DurableFile.write(config, to: partial + "/config.json", mode: 0o644)
        bytes += config.count
        for name in companions {
            let source = model.prepared.folder + "/" + name
            guard FilePath.exists(source) else { continue }
            bytes += try DurableFile.copy(source, to: partial + "/" + name, mode: 0o644)
        }
        return bytes
    }

    private var companions: [String] {
        [
            PreparedFileName.generationConfig, PreparedFileName.tokenizerJSON,
            PreparedFileName.tokenizerConfig, PreparedFileName.chatTemplate,
        ]
    }

    private var warnings: [String] {
        let folder = model.prepared.folder
        if FilePath.exists(folder + "/" + PreparedFileName.tokenizerJSON) { return [] }
        if FilePath.exists(folder + "/" + PreparedFileName.tokenizerGGUF) {
            return [
                "the base came from a GGUF file, whose tokenizer has no tokenizer.json: put one into the folder before "
                    + "you use it"
            ]
        }
        return ["the base has no tokenizer, and so has the folder"]
    }

    private func finish(_ result: ExportResult) throws {
        let note: JSONValue = [
            "adapter": .string(result.adapter.text),
            "adapter_digest": .string(artifact.digest.text),
            "base": .string(model.prepared.manifest.base.text),
            "job": .string(context.envelope.job.text),
            "result": try WireEncoder.encode(result),
        ]
        try DurableFile.write(
            note.serialized(pretty: true) + [10], to: partial + "/" + Self.noteName, mode: 0o644)
        try context.checkStop()
        try DurableFile.syncTree(partial)
        try DurableFile.rename(partial, to: spec.path)
    }
}
