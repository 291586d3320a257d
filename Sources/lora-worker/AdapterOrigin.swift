import FineTuning
import JSONModel
import LinuxSystem
import WireProtocol
import WorkerRuntime

/// What an adapter was made from and how: in its record at the broker, and in a file of its folder that PEFT ignores.
struct AdapterOrigin {
    /// Written by `FineTuneJob` beside PEFT's two files.
    static let fileName = "training.json"

    private let record: JSONValue
    private let path: String

    // MARK: Of a fine-tune

    /// The members of a trained adapter's record that say how to make it again. `inputs` names the blobs that the broker keeps as
    /// long as the adapter.
    static func meta(
        of product: FineTuneProduct, _ context: JobContext
    ) -> [(key: String, value: JSONValue)] {
        let summary = product.summary
        var meta: [(key: String, value: JSONValue)] = [
            ("recipe", context.envelope.spec["recipe"] ?? .object(JSONObject())),
            ("learning_rate", .number(summary.rate.rate)),
            ("steps", .integer(Int64(summary.steps))),
            ("data", .string(product.data)), ("inputs", inputs(context)),
            ("numerics", .string(context.numerics)),
        ]
        if let loss = summary.evalLossBefore { meta.append(("eval_loss_before", .number(loss))) }
        if let loss = summary.evalLossAfter { meta.append(("eval_loss", .number(loss))) }
        let parents = context.envelope.artifacts.filter { $0.type == .adapter }
        if !parents.isEmpty { meta.append(("parents", .array(parents.map(parent)))) }
        return meta
    }

    static func parent(_ artifact: TaskEnvelope.Artifact) -> JSONValue {
        [
            "adapter": .string(AdapterMerging.pinned(artifact)),
            "digest": .string(artifact.digest.text),
        ]
    }

    /// The job's inputs by name: `{"train": "sha256:…"}`.
    static func inputs(_ context: JobContext) -> JSONValue {
        .object(
            JSONObject(
                context.envelope.inputs.map {
                    (key: $0.name.text, value: .string($0.digest.text))
                }))
    }

    // MARK: Of a folder

    /// Nil where the folder does not say.
    ///
    /// - Throws: `BAD_ADAPTER` for a file that is no JSON object.
    static func read(_ folder: String) throws -> AdapterOrigin? {
        let path = "\(folder)/\(fileName)"
        guard FilePath.isDirectory(folder), FilePath.exists(path) else { return nil }
        do {
            let record = try JSONValue.parse(FilePath.read(path, limit: 1 << 20))
            guard record.object != nil else {
                throw TaskFailure.user("BAD_ADAPTER", "\(path) holds no object")
            }
            return AdapterOrigin(record: record, path: path)
        } catch let error as TaskFailure {
            throw error
        } catch {
            throw TaskFailure.user(
                "BAD_ADAPTER", "\(path): \(error)",
                hint: "the file only says where the adapter comes from: it can be left out")
        }
    }

    /// Refuses an adapter that was made for another base than `base`, unless the registration says otherwise.
    func check(_ spec: AdapterRegistration, base: String) throws {
        guard let own = record["base"]?.string, own != base, spec.anyBase != true else { return }
        let name = record["base_name"]?.string.map { " (\($0.prefix(80)))" } ?? ""
        throw TaskFailure.user(
            "ADAPTER_BASE",
            "\(path) says that the adapter was made for the base \(own.prefix(80))\(name), and \(spec.model) is \(base)",
            hint:
                "add it to its own base and move it with `loraq rebase`, or take it as it is with --any-base"
        )
    }

    /// The members that the adapter's record takes over.
    var meta: [(key: String, value: JSONValue)] {
        var meta: [(key: String, value: JSONValue)] = []
        for key in ["recipe", "data", "numerics"] {
            if let value = record[key], !value.isNull { meta.append((key, value)) }
        }
        if let loss = record["eval_loss_after"]?.double {
            meta.append(("eval_loss", .number(loss)))
        }
        if let base = record["base"] { meta.append(("trained_for", base)) }
        return meta
    }
}
