import Testing

@testable import ModelFiles

@Suite struct SafetensorsTests {
    @Test func writesWhatItReads() throws {
        try withTemporaryFolder { folder in
            let path = folder + "/a.safetensors"
            try SafetensorsWriter.write(
                [
                    .init(name: "b", shape: [2, 3], floats: [1, 2, 3, 4, 5, -6]),
                    .init(name: "a", shape: [2], bfloat16: [0x3F80, 0xC000]),
                    .init(
                        name: "ids", elementType: .int64, shape: [2],
                        bytes: littleEndian(Int64(-100)) + littleEndian(Int64(7))),
                    .init(name: "none", shape: [0, 4], floats: []),
                ], to: path)
            let file = try SafetensorsFile(path: path)
            #expect(file.tensors.map(\.name) == ["a", "b", "ids", "none"])
            #expect(try file.floats("b") == [1, 2, 3, 4, 5, -6])
            #expect(try file.floats("a") == [1, -2])
            #expect(try file.bfloat16("a") == [0x3F80, 0xC000])
            #expect(try file.integers("ids") == [-100, 7])
            #expect(try file.floats("none").isEmpty)
            #expect(file.metadata.map(\.key) == ["format"])
            var row = [Float](repeating: 0, count: 3)
            try row.withUnsafeMutableBufferPointer {
                try file.readFloats("b", rows: 1..<2, into: $0)
            }
            #expect(row == [4, 5, -6])
        }
    }

    @Test func rowsOutsideAreRefused() throws {
        try withTemporaryFolder { folder in
            let path = folder + "/a.safetensors"
            try SafetensorsWriter.write(
                [.init(name: "b", shape: [2, 3], floats: [1, 2, 3, 4, 5, 6])], to: path)
            let file = try SafetensorsFile(path: path)
            var row = [Float](repeating: 0, count: 3)
            let error = modelFileError {
                try row.withUnsafeMutableBufferPointer {
                    try file.readFloats("b", rows: 2..<3, into: $0)
                }
            }
            #expect(error?.code == .shapeMismatch)
            #expect(modelFileError { try file.floats("c") }?.code == .missingTensor)
        }
    }

    @Test(
        "KINDS 26: every number of a safetensors header is a claim",
        arguments: [
            (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,16]}}"#, 16, "does not make"),
            (#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#, 8, "do not lie"),
            (#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}"#, 16, "do not lie"),
            (#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[-16,0]}}"#, 16, "do not lie"),
            (
                #"{"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}"#, 16,
                "not a list of sizes"
            ),
            (
                #"{"a":{"dtype":"F32","shape":[4.5],"data_offsets":[0,16]}}"#, 16,
                "not a list of sizes"
            ),
            (
                #"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,16]}}"#, 16,
                "does not make"
            ),
            (
                #"{"a":{"dtype":"F32","shape":[9223372036854775807,9223372036854775807],"data_offsets":[0,16]}}"#,
                16, "does not make"
            ),
            (
                #"{"a":{"dtype":"F32","shape":[0,4611686018427387904,4],"data_offsets":[0,0]}}"#, 0,
                "does not make"
            ),
            (
                #"{"a":{"dtype":"F32","shape":[4611686018427387904,0,4],"data_offsets":[0,0]}}"#, 0,
                "does not make"
            ),
            (#"{"a":{"dtype":"F33","shape":[4],"data_offsets":[0,16]}}"#, 16, "not known"),
            (#"{"a":{"shape":[4],"data_offsets":[0,16]}}"#, 16, "no dtype"),
            (#"{"a":{"dtype":"F32","data_offsets":[0,16]}}"#, 16, "no shape"),
            (#"{"a":{"dtype":"F32","shape":[4]}}"#, 16, "data_offsets"),
            (
                #"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#, 20,
                "before the file does"
            ),
            (
                #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
                12, "overlap"
            ),
            (
                #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#,
                12, "belong to no tensor"
            ),
            (
                #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                8, "JSON"
            ),
            (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#, 4, "JSON"),
            (#"[1]"#, 0, "no JSON object"),
        ])
    func badHeaderIsRefused(header: String, data: Int, reason: String) throws {
        try withTemporaryFolder { folder in
            let path = folder + "/bad.safetensors"
            try write(safetensors(header, data: data), path)
            let error = modelFileError { try SafetensorsFile(path: path) }
            #expect(error?.description.contains(reason) == true, "\(error?.description ?? "")")
            #expect(error?.file == path)
        }
    }

    @Test func badLengthIsRefused() throws {
        try withTemporaryFolder { folder in
            let path = folder + "/bad.safetensors"
            for bytes in [
                [], [1, 2, 3], littleEndian(UInt64.max), littleEndian(UInt64(9)) + [123, 125],
                littleEndian(UInt64(1) << 40) + [123, 125],
            ] {
                try write(bytes, path)
                #expect(modelFileError { try SafetensorsFile(path: path) }?.code == .malformed)
            }
            #expect(
                modelFileError { try SafetensorsFile(path: folder + "/x") }?.code == .unreadable)
        }
    }

    /// Cutting a file anywhere is seen, never read past.
    @Test func everyPrefixIsRefused() throws {
        try withTemporaryFolder { folder in
            let whole = try SafetensorsWriter.bytes([
                .init(name: "a", shape: [3], floats: [1, 2, 3]),
                .init(name: "b", shape: [1], floats: [4]),
            ])
            let path = folder + "/cut.safetensors"
            for count in 0..<whole.count {
                try write(Array(whole[0..<count]), path)
                #expect(modelFileError { try SafetensorsFile(path: path) } != nil)
            }
        }
    }

    @Test func repeatedNameIsNotWritten() {
        let tensor = SafetensorsWriter.Tensor(name: "a", shape: [1], floats: [1])
        #expect(
            modelFileError { try SafetensorsWriter.bytes([tensor, tensor]) }?.code
                == .duplicateTensor)
        let wrong = SafetensorsWriter.Tensor(name: "a", shape: [2], floats: [1])
        #expect(modelFileError { try SafetensorsWriter.bytes([wrong]) }?.code == .shapeMismatch)
    }
}

@Suite struct SafetensorsCheckpointTests {
    private func shard(_ names: [String], _ path: String) throws {
        try SafetensorsWriter.write(
            names.map { .init(name: $0, shape: [1], floats: [1]) }, to: path)
    }

    private func index(_ map: String, _ folder: String) throws {
        try write(
            Array(#"{"weight_map":\#(map)}"#.utf8), folder + "/model.safetensors.index.json")
    }

    @Test func shardsAreReadThroughTheIndex() throws {
        try withTemporaryFolder { folder in
            try shard(["a"], folder + "/1.safetensors")
            try shard(["b"], folder + "/2.safetensors")
            try index(#"{"a":"1.safetensors","b":"2.safetensors"}"#, folder)
            let checkpoint = try SafetensorsCheckpoint(folder: folder)
            #expect(checkpoint.tensors.map(\.name) == ["a", "b"])
            #expect(try checkpoint.floats("b") == [1])
        }
    }

    @Test("KINDS 27: each tensor once, through the index")
    func indexAndShardsMustAgree() throws {
        try withTemporaryFolder { folder in
            try shard(["a", "c"], folder + "/1.safetensors")
            try shard(["b", "c"], folder + "/2.safetensors")
            func code(_ map: String) throws -> ModelFileError? {
                try index(map, folder)
                return modelFileError { try SafetensorsCheckpoint(folder: folder) }
            }
            let double = try code(#"{"a":"1.safetensors","b":"2.safetensors","c":"1.safetensors"}"#)
            #expect(double?.code == .duplicateTensor && double?.item == "c")
            let unnamed = try code(#"{"a":"1.safetensors"}"#)
            #expect(unnamed?.code == .unknownTensor && unnamed?.item == "c")
            let missing = try code(
                #"{"z":"1.safetensors","a":"1.safetensors","c":"1.safetensors"}"#)
            #expect(missing?.code == .missingTensor && missing?.item == "z")
            let gone = try code(#"{"a":"3.safetensors"}"#)
            #expect(gone?.code == .unreadable)
            let outside = try code(#"{"a":"../1.safetensors"}"#)
            #expect(outside?.code == .malformed)
        }
    }

    @Test func weightsInOtherFormsAreNamed() throws {
        try withTemporaryFolder { folder in
            try write([1], folder + "/pytorch_model.bin")
            let error = modelFileError { try SafetensorsCheckpoint(folder: folder) }
            #expect(error?.reason.contains("pytorch_model.bin") == true)
        }
    }
}
