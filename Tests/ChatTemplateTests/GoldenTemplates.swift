import Foundation
import JSONModel

/// Reference cases: what transformers renders. `Fixtures/` holds a few; `LORAQ_GOLDEN` names a folder
/// `golden` with all of them.
enum GoldenTemplates {
    static let root: String =
        ProcessInfo.processInfo.environment["LORAQ_GOLDEN"].map { $0 + "/templates" }
        ?? URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(path: "Fixtures")
        .path

    static let folders: [String] = {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: root)) ?? []
        return names.sorted().map { root + "/" + $0 }.filter {
            FileManager.default.fileExists(atPath: $0 + "/cases.json")
        }
    }()

    static func bytes(_ path: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
    }
}
