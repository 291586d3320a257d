import Foundation
import JSONModel
import LinuxSystem
import Testing

@testable import ModelFiles

/// Mutated files through every reader. `LORAQ_FUZZ_FILES` sets how many; `make fuzz` runs a million.
@Suite struct FuzzTests {
    static let count =
        ProcessInfo.processInfo.environment["LORAQ_FUZZ_FILES"].flatMap(Int.init) ?? 40_000

    @Test("KINDS 26: mutated files are read or refused, without a crash and in bounded memory")
    func mutatedFiles() throws {
        let seeds = try Self.seeds()
        var random = Mutator(state: 0x6C6F_7261)
        var refused = 0
        for index in 0..<Self.count {
            let (seed, read) = seeds[index % seeds.count]
            do {
                try read(random.mutate(seed))
            } catch let error as ModelFileError {
                refused += 1
                #expect(!error.file.isEmpty && !error.reason.isEmpty)
            } catch {
                Issue.record("file \(index): another error: \(error)")
                return
            }
        }
        // Most mutations harm; some change a name, a weight or a space.
        #expect(refused > Self.count / 4 && refused < Self.count)
        #expect(HostResources.peakResidentBytes() ?? .max < 4 << 30)
    }

    private typealias Reader = ([UInt8]) throws -> Void

    private static func seeds() throws -> [(bytes: [UInt8], read: Reader)] {
        let model = Fixture.folder + "/tiny-llama"
        let safetensors: Reader = {
            let file = try SafetensorsFile(SourceFile(bytes: $0, path: "fuzz.safetensors"))
            for tensor in file.tensors where tensor.elementType.isReadableFloat {
                _ = try file.floats(tensor.name)
            }
        }
        let gguf: Reader = {
            let file = try GGUFFile(SourceFile(bytes: $0, path: "fuzz.gguf"))
            for tensor in file.tensors { _ = try file.floats(tensor) }
        }
        let ggufModel: Reader = {
            let file = try GGUFFile(SourceFile(bytes: $0, path: "fuzz.gguf"))
            let model = try GGUFModel(file: file, elementType: .bfloat16)
            try TensorInventory.check(model, against: model.config)
            _ = try model.tokenizer?.json(path: "fuzz.gguf")
        }
        func json(_ read: @escaping (JSONValue) throws -> Void) -> Reader {
            { bytes in
                let value: JSONValue
                do { value = try JSONValue.parse(bytes) } catch {
                    throw ModelFileError(.malformed, file: "fuzz.json", "\(error)")
                }
                try read(value)
            }
        }
        let small = try SafetensorsWriter.bytes([
            .init(name: "model.norm.weight", shape: [4], floats: [1, 2, 3, 4]),
            .init(name: "model.embed_tokens.weight", shape: [3, 2], floats: [1, 2, 3, 4, 5, 6]),
        ])
        let index = Array(
            #"{"metadata":{"total_size":40},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#
                .utf8)
        return [
            (small, safetensors),
            (try JSONFile.readBytes(Fixture.folder + "/types.gguf"), gguf),
            (try JSONFile.readBytes(model + ".gguf"), ggufModel),
            (index, json { _ = try SafetensorsCheckpoint.weightMap($0, path: "fuzz.json") }),
            (
                try JSONFile.readBytes(model + "/config.json"),
                json {
                    let config = try ModelConfigReader.read(
                        config: $0, generation: nil, path: "config.json")
                    // What a config claims reserves nothing, however large.
                    #expect(config.layerCount <= 1 << 16)
                }
            ),
        ]
    }
}

/// Damages files as faults and malice do: bits, extreme numbers, cuts, repeats, digits.
struct Mutator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(max(1, limit))) }

    static let extremes: [UInt64] = [
        0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 40, UInt64(Int64.max), 1 << 63, .max,
    ]

    static let characters = Array("0123456789-.eE[]{}\",:tfn ".utf8)

    mutating func mutate(_ bytes: [UInt8]) -> [UInt8] {
        var result = bytes
        for _ in 0...below(3) where !result.isEmpty {
            // Headers stand in front: half of the faults fall there.
            let reach = below(2) == 0 ? min(result.count, 2048) : result.count
            let position = below(reach)
            switch below(8) {
            case 0: result[position] ^= 1 << UInt8(below(8))
            case 1: result[position] = [0, 0xFF, 0x7F, 0x80][below(4)]
            case 2:
                let value = Self.extremes[below(Self.extremes.count)]
                for i in 0..<min(8, result.count - position) {
                    result[position + i] = UInt8(truncatingIfNeeded: value >> UInt64(8 * i))
                }
            case 3: result.removeLast(result.count - position)
            case 4: result.removeSubrange(position..<min(result.count, position + 1 + below(16)))
            case 5:
                let end = min(result.count, position + 1 + below(64))
                result.insert(contentsOf: result[position..<end], at: below(result.count))
            case 6:
                let digits = Array("99999999999999999999".utf8.prefix(1 + below(20)))
                result.insert(contentsOf: digits, at: position)
            default: result[position] = Self.characters[below(Self.characters.count)]
            }
        }
        return result
    }
}
