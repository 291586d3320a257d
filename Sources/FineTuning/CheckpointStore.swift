import JSONModel
import Kernels
import LinuxSystem
import ModelFiles

/// Checkpoints of one run in a folder: `step-00000050/`, whole or absent.
///
/// Each is written under a temporary name, synced and renamed. It holds `adapter_model.safetensors` and
/// `adapter_config.json` (a PEFT folder), `optimizer.safetensors`, and `state.json` with the position, what the run is,
/// and the digests of the other files and of itself.
struct CheckpointStore {
    let folder: String
    /// `adapter_config.json`, so that a checkpoint can be loaded as an adapter; nil leaves it out.
    let adapterConfig: [UInt8]?

    static let stateName = "state.json"
    static let adapterName = "adapter_model.safetensors"
    static let optimizerName = "optimizer.safetensors"
    private static let prefix = "step-"

    struct Loaded {
        var state: RunState
        var identity: RunIdentity
        /// Flat, in the order of the step's tensors.
        var parameters: [Float]
        var moment1: [Float]
        var moment2: [Float]
    }

    private func name(_ step: Int) -> String {
        let digits = String(step)
        return Self.prefix + String(repeating: "0", count: max(0, 8 - digits.count)) + digits
    }

    /// Writes a checkpoint and removes those beyond the newest `limit`, but for the best one and the last good one.
    func write(
        _ state: RunState, identity: RunIdentity, model: some GradientStep, optimizer: AdamW,
        limit: Int
    ) throws {
        let target = folder + "/" + name(state.step)
        let temporary = folder + "/." + name(state.step) + ".tmp"
        do {
            try DurableFile.createDirectories(folder)
            try DurableFile.removeTree(temporary)
            try DurableFile.createDirectories(temporary)
            let parameters = try Self.floats(model.parameters)
            let tensors = model.trainedTensors.map {
                SafetensorsWriter.Tensor(
                    name: $0.name, shape: $0.shape, floats: Array(parameters[$0.range]))
            }
            var files: [(name: String, bytes: [UInt8])] = [
                (
                    Self.adapterName,
                    try SafetensorsWriter.bytes(tensors, metadata: [("format", "pt")])
                ),
                (
                    Self.optimizerName,
                    try SafetensorsWriter.bytes([
                        .init(
                            name: "moment1", shape: [parameters.count],
                            floats: try Self.floats(optimizer.moment1)),
                        .init(
                            name: "moment2", shape: [parameters.count],
                            floats: try Self.floats(optimizer.moment2)),
                    ])
                ),
            ]
            if let adapterConfig { files.append(("adapter_config.json", adapterConfig)) }
            for file in files { try DurableFile.write(file.bytes, to: temporary + "/" + file.name) }
            let digests = files.map {
                (key: $0.name, value: JSONValue.string(ContentDigest(of: $0.bytes).text))
            }
            let record = Self.record([
                ("state", state.json), ("run", identity.json),
                ("files", .object(JSONObject(digests))),
            ])
            try DurableFile.write(
                record.serialized(pretty: true), to: temporary + "/" + Self.stateName)
            try DurableFile.removeTree(target)
            Failpoint.checkpointWritten.reach()
            try DurableFile.rename(temporary, to: target)
            Failpoint.checkpointPlaced.reach()
        } catch let error as SystemError {
            try? DurableFile.removeTree(temporary)
            throw FineTuneError(
                .checkpoint, "the checkpoint of step \(state.step) cannot be written: \(error)")
        }
        let kept = [state.watch.bestStep, state.watch.goodCheckpoint]
        for old in steps().dropLast(limit) where !kept.contains(old) {
            try? DurableFile.removeTree(folder + "/" + name(old))
        }
    }

    /// The steps with a checkpoint, ascending; damaged ones too.
    func steps() -> [Int] {
        let names = (try? FilePath.entries(of: folder)) ?? []
        return names.compactMap {
            $0.hasPrefix(Self.prefix) ? Int($0.dropFirst(Self.prefix.count)) : nil
        }.sorted()
    }

    /// Removes what a killed process left half-written.
    func removeLeftovers() {
        for name in (try? FilePath.entries(of: folder)) ?? [] where name.hasSuffix(".tmp") {
            try? DurableFile.removeTree(folder + "/" + name)
        }
    }

    /// The newest checkpoint that is whole, and notes on newer ones that are not.
    ///
    /// - Throws: `FineTuneError.checkpoint` if it belongs to another run.
    func newest(
        for identity: RunIdentity, tensors: [TrainedTensor]
    ) throws -> (loaded: Loaded?, notes: [String]) {
        var notes: [String] = []
        for step in steps().reversed() {
            let path = folder + "/" + name(step)
            let loaded: Loaded
            do { loaded = try load(path, tensors: tensors) } catch {
                notes.append("checkpoint \(name(step)) is damaged and was passed over: \(error)")
                continue
            }
            if let obstacle = loaded.identity.obstacle(identity) {
                throw FineTuneError(
                    .checkpoint,
                    "\(path) was made with another \(obstacle); remove the folder to start anew")
            }
            return (loaded, notes)
        }
        return (nil, notes)
    }

    /// The checkpoint of one step.
    ///
    /// - Throws: `FineTuneError.checkpoint` if it is not there, or not whole.
    func checkpoint(_ step: Int, tensors: [TrainedTensor]) throws -> Loaded {
        do { return try load(path(of: step), tensors: tensors) } catch {
            throw FineTuneError(
                .checkpoint, "the checkpoint of step \(step) cannot be read: \(error)")
        }
    }

    func path(of step: Int) -> String { folder + "/" + name(step) }

    /// What `state.json` holds: the members, and the digest that covers them.
    private static func record(_ members: [(key: String, value: JSONValue)]) -> JSONValue {
        let digest = ContentDigest(of: JSONValue.object(JSONObject(members)).serialized()).text
        return .object(
            JSONObject([("format", 1)] + members + [(key: "digest", value: .string(digest))]))
    }

    private func load(_ path: String, tensors: [TrainedTensor]) throws -> Loaded {
        let record = try JSONFile.read(path + "/" + Self.stateName)
        guard record["format"]?.integer == 1,
            let state = record["state"].flatMap(RunState.init(json:)),
            let identity = record["run"].flatMap(RunIdentity.init(json:)),
            let files = record["files"]?.object
        else { throw FineTuneError(.checkpoint, "\(Self.stateName) is of another form") }
        let members = ["state", "run", "files"].map { (key: $0, value: record[$0] ?? .null) }
        guard record == Self.record(members) else {
            throw FineTuneError(.checkpoint, "\(Self.stateName) does not have its digest")
        }
        for required in [Self.adapterName, Self.optimizerName] where files[required] == nil {
            throw FineTuneError(.checkpoint, "\(Self.stateName) does not name \(required)")
        }
        for (name, digest) in files.entries {
            let bytes = try JSONFile.readBytes(path + "/" + name, limit: 1 << 36)
            guard digest.string == ContentDigest(of: bytes).text else {
                throw FineTuneError(.checkpoint, "\(name) does not have its digest")
            }
        }
        let adapter = try SafetensorsFile(path: path + "/" + Self.adapterName)
        let optimizer = try SafetensorsFile(path: path + "/" + Self.optimizerName)
        let count = tensors.map(\.range.upperBound).max() ?? 0
        var parameters = [Float](repeating: 0, count: count)
        for tensor in tensors {
            let values = try adapter.floats(tensor.name)
            guard values.count == tensor.range.count else {
                throw FineTuneError(.checkpoint, "\(tensor.name) has another shape")
            }
            parameters.replaceSubrange(tensor.range, with: values)
        }
        let moment1 = try optimizer.floats("moment1")
        let moment2 = try optimizer.floats("moment2")
        guard moment1.count == count, moment2.count == count else {
            throw FineTuneError(.checkpoint, "the optimizer's state has another size")
        }
        return Loaded(
            state: state, identity: identity, parameters: parameters, moment1: moment1,
            moment2: moment2)
    }

    static func floats(_ matrix: Matrix) throws -> [Float] {
        try matrix.withFloats(row: 0) { Array($0) }
    }

    static func restore(_ values: [Float], into matrix: Matrix) throws {
        try values.withUnsafeBytes { try matrix.copy(bytes: $0) }
    }
}
