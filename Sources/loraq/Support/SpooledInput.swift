import Foundation
import LoraqClient

/// Standard input on disk, so that it can be read twice; gone with the process.
final class SpooledInput {
    let path: String

    init() throws {
        let folder = FileManager.default.temporaryDirectory.path
        path = "\(folder)/loraq-input-\(UUID().uuidString).jsonl"
        let file = try OutputFile(path, replaces: false)
        do {
            while let piece = try FileHandle.standardInput.read(upToCount: 1 << 20), !piece.isEmpty
            {
                try file.write([UInt8](piece))
            }
            try file.commit()
        } catch {
            file.abandon()
            throw error
        }
    }

    deinit { unlink(path) }
}
