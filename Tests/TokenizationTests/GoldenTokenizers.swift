import Foundation
import JSONModel

@testable import Tokenization

/// Reference cases: what the `tokenizers` library makes of many strings, one folder per pipeline.
///
/// `Fixtures/` holds a few; `LORAQ_GOLDEN` names a folder `golden` with all of them.
enum GoldenTokenizers {
    static let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appending(path: "Fixtures").path

    static let folders: [String] = {
        let all = ProcessInfo.processInfo.environment["LORAQ_GOLDEN"].map { $0 + "/tokenizers" }
        let root = all ?? fixtures
        let names = (try? FileManager.default.contentsOfDirectory(atPath: root)) ?? []
        return names.sorted().map { root + "/" + $0 }.filter {
            FileManager.default.fileExists(atPath: $0 + "/cases.json")
        }
    }()

    static func json(_ path: String) throws -> JSONValue {
        try JSONValue.parse([UInt8](Data(contentsOf: URL(fileURLWithPath: path))))
    }
}

extension JSONValue {
    var ids: [Int32] { (array ?? []).compactMap { $0.integer.map(Int32.init) } }
}
