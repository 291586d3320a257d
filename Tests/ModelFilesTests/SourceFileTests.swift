import Foundation
import LinuxSystem
import Testing

@testable import ModelFiles

/// KINDS 28: nothing that happens to the source file can crash loraq or change what it serves.
@Suite struct SourceFileTests {
    /// A private copy of the tiny model, in its folder or as one GGUF file, and the file that holds its weights.
    static func copy(gguf: Bool, into folder: String) throws -> (model: String, weights: String) {
        let original = Fixture.folder + (gguf ? "/tiny-llama.gguf" : "/tiny-llama")
        let model = folder + (gguf ? "/model.gguf" : "/model")
        try FileManager.default.copyItem(atPath: original, toPath: model)
        return (model, gguf ? model : model + "/model.safetensors")
    }

    @Test(
        "KINDS 28: a source cut short while it is prepared is an error", arguments: [true, false])
    func cutShort(_ gguf: Bool) throws {
        try withTemporaryFolder { folder in
            let (model, weights) = try Self.copy(gguf: gguf, into: folder)
            let source = try ModelSource.open(model)
            let error = modelFileError {
                try ModelPreparation.prepare(
                    source, into: folder + "/out", packer: RowMajorPacker()
                ) { progress in
                    if progress.stage == .digest, progress.done == 2 {
                        try FileHandle(forWritingTo: URL(fileURLWithPath: weights))
                            .truncate(atOffset: 16)
                    }
                }
            }
            #expect(error?.code == .corrupt)
            #expect(error?.file == weights)
            #expect(error?.reason.contains("shorter") == true)
            #expect(!FilePath.exists(folder + "/out/" + PreparedFileName.manifest))
        }
    }

    @Test(
        "KINDS 28: a source changed in place while it is prepared is an error",
        arguments: [true, false])
    func changedInPlace(_ gguf: Bool) throws {
        try withTemporaryFolder { folder in
            let (model, weights) = try Self.copy(gguf: gguf, into: folder)
            let source = try ModelSource.open(model)
            let size = try FilePath.size(of: weights)
            let error = modelFileError {
                try ModelPreparation.prepare(
                    source, into: folder + "/out", packer: RowMajorPacker()
                ) { progress in
                    guard progress.stage == .pack, progress.done < progress.total else { return }
                    let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: weights))
                    try handle.seek(toOffset: UInt64(size - 2))
                    try handle.write(contentsOf: Data([7, 7]))
                }
            }
            #expect(error?.reason.contains("changed while it was read") == true)
            #expect(!FilePath.exists(folder + "/out/" + PreparedFileName.manifest))
        }
    }

    @Test("KINDS 28: a source replaced while it is prepared, or removed later, changes nothing")
    func replacedOrRemoved() throws {
        try withTemporaryFolder { folder in
            let (model, weights) = try Self.copy(gguf: false, into: folder)
            let expected = try ModelPreparation.prepare(
                ModelSource.open(model), into: folder + "/whole", packer: RowMajorPacker())
            let source = try ModelSource.open(model)
            let manifest = try ModelPreparation.prepare(
                source, into: folder + "/out", packer: RowMajorPacker()
            ) { progress in
                if progress.stage == .digest, progress.done == 1 {
                    try FileManager.default.removeItem(atPath: weights)
                    try write([1, 2, 3], weights)
                }
            }
            #expect(manifest.base == expected.base)
            try FileManager.default.removeItem(atPath: model)
            try PreparedModel(folder: folder + "/out").packed.verifyContents()
        }
    }

    @Test func smallTypesAreReadInPieces() throws {
        let file = try SafetensorsFile(path: Fixture.folder + "/float8.safetensors")
        for name in ["F8_E4M3", "F8_E5M2"] {
            let reference = try file.floats(name + ".float32")
            let values = try file.floats(name)
            #expect(values.count == 256)
            #expect(
                zip(values, reference).allSatisfy {
                    $0.isNaN ? $1.isNaN : $0.bitPattern == $1.bitPattern
                })
            #expect(
                try file.bfloat16(name) == values.map(FloatFormat.bfloat16))
        }
    }
}
