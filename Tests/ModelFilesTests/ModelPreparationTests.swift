import JSONModel
import LinuxSystem
import Testing

@testable import ModelFiles

@Suite struct ModelPreparationTests {
    static let model = Fixture.folder + "/tiny-llama"

    @Test func preparedModelHoldsTheWeights() throws {
        try withTemporaryFolder { folder in
            let source = try ModelSource.open(Self.model)
            var seen: [ModelPreparation.Progress] = []
            let manifest = try ModelPreparation.prepare(
                source, into: folder, packer: RowMajorPacker(), progress: { seen.append($0) })
            let prepared = try PreparedModel(folder: folder)
            #expect(prepared.manifest == manifest)
            #expect(prepared.config == source.config)
            #expect(manifest.elementType == .bfloat16)
            #expect(seen.last.map { $0.stage == .pack && $0.done == $0.total } == true)
            try prepared.packed.verifyContents()
            for tensor in prepared.packed.tensors {
                let bytes = try prepared.packed.bytes(of: tensor.name)
                #expect(Int(bitPattern: bytes.baseAddress) % 4096 == 0)
                if tensor.elementType == .float32 {
                    #expect(
                        try prepared.packed.floats(of: tensor.name)
                            == source.tensors.floats(tensor.name))
                } else {
                    let values = try source.tensors.bfloat16(tensor.name)
                    #expect(values.withUnsafeBytes { $0.elementsEqual(bytes) })
                }
            }
        }
    }

    @Test("KINDS 3: an end token whose row was never trained is told")
    func untrainedEndTokenIsTold() throws {
        try withTemporaryFolder { folder in
            let (model, weights) = try SourceFileTests.copy(gguf: false, into: folder)
            let end = try ModelSource.open(model).config.specialTokens.end[0]
            let plain = try ModelPreparation.prepare(
                ModelSource.open(model), into: folder + "/plain", packer: RowMajorPacker())
            #expect(!plain.notes.contains { $0.contains("untrained") })
            var bytes = try JSONFile.readBytes(weights)
            let length = bytes[0..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
            let header = try JSONValue.parse(Array(bytes[8..<(8 + length)]))
            let entry = try #require(header["model.embed_tokens.weight"])
            let offsets = entry["data_offsets"]?.array?.compactMap(\.integer) ?? []
            let rows = try #require(entry["shape"]?.array?.first?.integer)
            let row = (offsets[1] - offsets[0]) / rows
            let start = 8 + length + offsets[0] + end * row
            for index in start..<(start + row) { bytes[index] = 0 }
            try write(bytes, weights)
            let notes = try ModelPreparation.prepare(
                ModelSource.open(model), into: folder + "/zeroed", packer: RowMajorPacker()
            ).notes
            #expect(notes.contains { $0.contains("end token \(end)") && $0.contains("untrained") })
        }
    }

    @Test func ggufKeepsItsTokenizerAndTemplate() throws {
        try withTemporaryFolder { folder in
            let source = try ModelSource.open(Self.model + ".gguf")
            let manifest = try ModelPreparation.prepare(
                source, into: folder, packer: RowMajorPacker())
            let prepared = try PreparedModel(folder: folder)
            #expect(prepared.config == source.config)
            #expect(try prepared.chatTemplate() == source.chatTemplate)
            guard case .gguf(let data)? = try prepared.tokenizer(),
                case .gguf(let original)? = source.tokenizer
            else {
                Issue.record("no tokenizer")
                return
            }
            #expect(data == original)
            let other = try ModelSource.open(Self.model)
            #expect(
                try manifest.base
                    == BaseDigest.compute(config: other.config, source: other.tensors))
        }
    }

    @Test func seedlingIsPrepared() throws {
        try withTemporaryFolder { folder in
            let source = try ModelSource.open(Fixture.seedling + "/model")
            let manifest = try ModelPreparation.prepare(
                source, into: folder, packer: RowMajorPacker())
            #expect(manifest.parameterCount > 2_000_000 && manifest.hasChatTemplate)
            let prepared = try PreparedModel(folder: folder)
            #expect(try prepared.chatTemplate()?.isEmpty == false)
        }
    }

    /// A flipped byte in the header or a cut anywhere is seen at opening, one in the data by the full check.
    @Test func damageIsSeen() throws {
        try withTemporaryFolder { folder in
            let source = try ModelSource.open(Self.model)
            _ = try ModelPreparation.prepare(source, into: folder, packer: RowMajorPacker())
            let path = folder + "/packed.bin"
            let whole = try JSONFile.readBytes(path)
            let headerEnd = 96 + Int(whole[16]) + Int(whole[17]) << 8 + Int(whole[18]) << 16
            for position in Array(0..<12) + Array(16..<32)
                + Array(stride(from: 32, to: headerEnd, by: 97))
            {
                var damaged = whole
                damaged[position] ^= 0x20
                try write(damaged, path)
                #expect(
                    modelFileError { try PackedModelFile(path: path) } != nil, "byte \(position)")
            }
            for count in [0, 95, 4096, whole.count - 4096, whole.count - 1] {
                try write(Array(whole[0..<count]), path)
                #expect(modelFileError { try PackedModelFile(path: path) } != nil)
            }
            var damaged = whole
            damaged[headerEnd + 5000] ^= 1
            try write(damaged, path)
            let file = try PackedModelFile(path: path)
            #expect(modelFileError { try file.verifyContents() }?.code == .corrupt)
            try write(whole, path)
            let other = ContentDigest(of: [1])
            #expect(
                modelFileError { try PackedModelFile(path: path, expectedBase: other) }?.code
                    == .corrupt)
        }
    }

    @Test func interruptedWorkLeavesNoManifest() throws {
        struct Stopped: Error {}
        try withTemporaryFolder { folder in
            let source = try ModelSource.open(Self.model)
            #expect(throws: Stopped.self) {
                _ = try ModelPreparation.prepare(source, into: folder, packer: RowMajorPacker()) {
                    if $0.stage == .pack, $0.done > $0.total / 2 { throw Stopped() }
                }
            }
            #expect(try FilePath.entries(of: folder).isEmpty)
            #expect(modelFileError { try PreparedModel(folder: folder) }?.code == .unreadable)
        }
    }

    @Test func missingAndUnknownTensorsAreListed() throws {
        try withTemporaryFolder { folder in
            let source = try SafetensorsFile(path: Self.model + "/model.safetensors")
            func copy(_ change: (inout [SafetensorsWriter.Tensor]) -> Void) throws
                -> ModelFileError?
            {
                var tensors = try source.tensors.map { tensor in
                    SafetensorsWriter.Tensor(
                        name: tensor.name, shape: tensor.shape,
                        bfloat16: try source.bfloat16(tensor.name))
                }
                change(&tensors)
                try SafetensorsWriter.write(tensors, to: folder + "/model.safetensors")
                try write(
                    try JSONFile.readBytes(Self.model + "/config.json"), folder + "/config.json")
                return modelFileError { try ModelSource.open(folder) }
            }
            let missing = try copy { $0.removeAll { $0.name.hasSuffix("1.mlp.up_proj.weight") } }
            #expect(missing?.code == .missingTensor)
            #expect(missing?.item == "model.layers.1.mlp.up_proj.weight")
            let unknown = try copy { $0.append(.init(name: "extra", shape: [1], floats: [1])) }
            #expect(unknown?.code == .unknownTensor && unknown?.item == "extra")
            let shape = try copy { tensors in
                let index = tensors.firstIndex { $0.name == "model.norm.weight" } ?? 0
                tensors[index] = .init(name: "model.norm.weight", shape: [2], floats: [1, 1])
            }
            #expect(shape?.code == .shapeMismatch && shape?.item == "model.norm.weight")
            let head = try copy { tensors in
                tensors.append(
                    .init(
                        name: "lm_head.weight", shape: [40, 64],
                        floats: [Float](repeating: 0, count: 40 * 64)))
            }
            #expect(head?.item == "lm_head.weight")
        }
    }
}
