import Foundation
import JSONModel
import Testing

@testable import LoRA

/// Mutated `adapter_config.json` files through reader and plan; `make fuzz` runs a million.
@Suite struct ConfigFuzzTests {
    static let count =
        ProcessInfo.processInfo.environment["LORAQ_FUZZ_FILES"].flatMap(Int.init) ?? 10_000

    @Test("KINDS 26: mutated adapter configs are read or refused") func mutatedConfigs() throws {
        var config = LoRAConfig(rank: 4, alpha: 8, targets: .list(["q_proj", "v_proj"]))
        config.rankPattern = [.init("layers\\.1\\.self_attn\\.q_proj", 2)]
        config.layers = [0, 1]
        let seed = config.peftObject().serialized()
        let characters = Array("0123456789-.eE[]{}\",:tfn\\*+?()|^$ ".utf8)
        var state: UInt64 = 7
        func below(_ limit: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int((state >> 33) % UInt64(limit))
        }
        var refused = 0
        for _ in 0..<Self.count {
            var bytes = seed
            for _ in 0...below(3) {
                let position = below(bytes.count)
                switch below(4) {
                case 0: bytes[position] = characters[below(characters.count)]
                case 1: bytes.remove(at: position)
                case 2:
                    bytes.insert(contentsOf: Array("9999999999999999999".utf8), at: position)
                default: bytes.insert(characters[below(characters.count)], at: position)
                }
            }
            guard let value = try? JSONValue.parse(bytes) else {
                refused += 1
                continue
            }
            do {
                _ = try AdapterPlan(LoRAConfig(parsing: value), for: TestModel())
            } catch {
                refused += 1
                #expect(!error.message.isEmpty)
            }
        }
        #expect(refused > Self.count / 4 && refused < Self.count)
    }
}
