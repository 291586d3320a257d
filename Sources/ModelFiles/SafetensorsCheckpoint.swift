import JSONModel
import LinuxSystem

/// The weights of a Hugging Face folder: `model.safetensors`, or the shards that
/// `model.safetensors.index.json` names.
///
/// Each tensor is found exactly once, through the index where there is one: a tensor that the index
/// names and its shard lacks, that two shards hold, or that no index entry names is an error.
public struct SafetensorsCheckpoint: TensorSource {
    public let path: String
    public let tensors: [TensorDescription]
    /// The files read, in order of their names.
    public let files: [SafetensorsFile]

    private let fileIndexes: [String: Int]

    /// - Parameter folder: A folder with `config.json` and weights.
    public init(folder: String) throws {
        path = folder
        let index = folder + "/model.safetensors.index.json"
        let single = folder + "/model.safetensors"
        if FilePath.exists(index) {
            let map = try Self.weightMap(JSONFile.read(index), path: index)
            let names = Set(map.map(\.file)).sorted(by: bytewisePrecedes)
            files = try names.map { try SafetensorsFile(path: folder + "/" + $0) }
            fileIndexes = try Self.resolve(map, names: names, files: files, index: index)
        } else if FilePath.exists(single) {
            let file = try SafetensorsFile(path: single)
            files = [file]
            fileIndexes = Dictionary(uniqueKeysWithValues: file.tensors.map { ($0.name, 0) })
        } else {
            let others = ((try? FilePath.entries(of: folder)) ?? [])
                .filter { $0.hasSuffix(".bin") || $0.hasSuffix(".pt") || $0.hasSuffix(".pth") }
            throw ModelFileError(
                .unreadable, file: folder,
                others.isEmpty
                    ? "there is neither model.safetensors nor model.safetensors.index.json"
                    : "weights are only in \(others.sorted().joined(separator: ", ")), which is not "
                        + "read; save the model with safe_serialization=True")
        }
        tensors = files.flatMap(\.tensors).sorted { bytewisePrecedes($0.name, $1.name) }
    }

    /// The entries of an index file, in its order.
    static func weightMap(
        _ value: JSONValue, path index: String
    ) throws -> [(tensor: String, file: String)] {
        guard let map = value["weight_map"]?.object else {
            throw ModelFileError(.malformed, file: index, item: "weight_map", "is missing")
        }
        return try map.entries.map { entry in
            guard let file = entry.value.string, !file.isEmpty else {
                throw ModelFileError(.malformed, file: index, item: entry.key, "names no file")
            }
            guard !file.contains("/"), file != "..", file != "." else {
                throw ModelFileError(
                    .malformed, file: index, item: entry.key, "file \(file) lies outside the folder"
                )
            }
            return (entry.key, file)
        }
    }

    private static func resolve(
        _ map: [(tensor: String, file: String)], names: [String], files: [SafetensorsFile],
        index: String
    ) throws -> [String: Int] {
        let numbers = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, $0) })
        var result: [String: Int] = [:]
        for (tensor, file) in map {
            guard let number = numbers[file], files[number].description(of: tensor) != nil else {
                throw ModelFileError(
                    .missingTensor, file: index, item: tensor,
                    "the index says \(file), which does not hold it")
            }
            guard result.updateValue(number, forKey: tensor) == nil else {
                throw ModelFileError(.duplicateTensor, file: index, item: tensor, "named twice")
            }
        }
        for (number, file) in files.enumerated() {
            for tensor in file.tensors {
                guard let chosen = result[tensor.name] else {
                    throw ModelFileError(
                        .unknownTensor, file: file.path, item: tensor.name,
                        "the index does not name it")
                }
                guard chosen == number else {
                    throw ModelFileError(
                        .duplicateTensor, file: file.path, item: tensor.name,
                        "also in \(files[chosen].path)")
                }
            }
        }
        return result
    }

    public func description(of name: String) -> TensorDescription? {
        fileIndexes[name].flatMap { files[$0].description(of: name) }
    }

    public func readFloats(
        _ name: String, rows: Range<Int>, into output: UnsafeMutableBufferPointer<Float>
    ) throws {
        try file(of: name).readFloats(name, rows: rows, into: output)
    }

    public func readBFloat16(
        _ name: String, rows: Range<Int>, into output: UnsafeMutableBufferPointer<UInt16>
    ) throws {
        try file(of: name).readBFloat16(name, rows: rows, into: output)
    }

    public func checkUnchanged() throws {
        for file in files { try file.checkUnchanged() }
    }

    private func file(of name: String) throws -> SafetensorsFile {
        guard let index = fileIndexes[name] else {
            throw ModelFileError(.missingTensor, file: path, item: name, "no such tensor")
        }
        return files[index]
    }
}
