import JSONModel
import Kernels
import LinuxSystem
import LoRA
import ModelFiles
import WireProtocol
import WorkerRuntime

/// `adapter` with `merge`: weighted sums, scalings and reductions of registered adapters.
///
/// The work is a function of the parts and the spec alone, so an attempt that was killed is simply done again.
enum AdapterMerging {
    static func run(_ spec: AdapterMerge, _ context: JobContext) throws -> JobOutcome {
        let model = try context.shelf.model(of: context.envelope)
        let sources = try spec.parts.map { part in
            (part: part, artifact: try self.artifact(part.adapter, context, base: model))
        }
        let parts = try sources.map { source in
            AdapterCombination.Part(
                adapter: try AdapterFolder.read(
                    source.artifact.path, for: model.decoder, checkingBase: false),
                weight: source.part.weight, name: pinned(source.artifact))
        }
        let combination = try AdapterCombination(
            parts,
            reduction: spec.rank.map { .rank($0) } ?? spec.energy.map { .energy($0) })
        // LAPACK is OpenBLAS's: its self-test comes first.
        _ = try FloatProducts(threads: context.shelf.pool.threadCount)
        let made = try combination.run(for: model.decoder) { done, total in
            try context.checkStop()
            context.task.report(done: Double(done), total: Double(total), unit: "matrices")
        }
        let (adapter, energy) = (made.adapter, made.energy)
        let folder = try context.workdir() + "/adapter"
        try DurableFile.removeTree(folder)
        try AdapterFolder.write(adapter, to: folder)
        let bytes = try [AdapterLoader.weightsName, AdapterLoader.configName].reduce(0) {
            $0 + (try FilePath.size(of: "\(folder)/\($1)"))
        }
        let reference = ArtifactReference(model: spec.parts[0].adapter.model, adapter: spec.name)
        let parents: [JSONValue] = sources.map { source in
            [
                "adapter": .string(pinned(source.artifact)),
                "digest": .string(source.artifact.digest.text),
                "weight": .number(source.part.weight),
            ]
        }
        var more: [(key: String, value: JSONValue)] = [
            ("parents", .array(parents)), ("job", .string(context.envelope.job.text)),
        ]
        if let energy { more.append(("energy_kept", .number(energy.kept))) }
        let artifact = try AdapterKind.artifact(
            adapter, reference, path: "adapter", bytes: bytes, model: model, more: more)
        let ranks = adapter.modules.map(\.plan.rank)
        let isEven = Set(ranks).count == 1
        let result = AdapterResult(
            adapter: reference, digest: artifact.digest, rank: adapter.config.rank,
            alpha: adapter.config.alpha, targetModules: AdapterKind.targetNames(adapter),
            parameters: AdapterKind.parameterCount(adapter), bytes: bytes,
            ranks: isEven ? nil : [ranks.min() ?? 0, ranks.max() ?? 0],
            energy: energy.map {
                AdapterResult.Energy(
                    kept: $0.kept, lowest: $0.lowest,
                    lowestModule: $0.lowestPath.isEmpty ? nil : $0.lowestPath)
            })
        return JobOutcome(
            result: try WireEncoder.encode(result),
            metrics: energy.map { ["energy": $0.kept, "lowest_energy": $0.lowest] },
            artifacts: [artifact])
    }

    /// The artifact of an adapter that the spec names, made for the very base that the task has.
    static func artifact(
        _ reference: ArtifactReference, _ context: JobContext, base model: LoadedModel
    ) throws -> TaskEnvelope.Artifact {
        guard let found = context.envelope.artifacts.first(where: { $0.ref == reference.text })
        else {
            throw TaskFailure.user(.unknownArtifact, "there is no adapter \(reference)")
        }
        let own = model.prepared.manifest.base.text
        if let base = found.meta?["base"]?.string, base != own {
            throw TaskFailure.user(
                "ADAPTER_BASE",
                "\(pinned(found)) was made for another version of \(reference.model) than the other adapters or the "
                    + "model named here",
                hint: "name versions (`M:A@2`) that belong to one version of the model; "
                    + "`loraq adapters show` tells an adapter's base")
        }
        return found
    }

    /// `M:A@3`
    static func pinned(_ artifact: TaskEnvelope.Artifact) -> String {
        artifact.name.pinned(to: artifact.version).text
    }
}
