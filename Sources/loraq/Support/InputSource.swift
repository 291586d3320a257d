import Foundation
import LinuxSystem
import LoraqClient

/// Data that is read twice, for its digest and to be sent: a file itself, or, where it is standard input, a FIFO or a
/// pipe of the shell's, a copy that is gone with the process.
final class InputSource {
    /// The file to read.
    let path: String
    /// As the person named it.
    let shown: String
    private let isCopy: Bool

    /// - Parameters:
    ///   - given: A path, or `-` for standard input where `takesStandardInput`.
    ///   - what: What it is, for messages: "training file".
    /// - Throws: `.usage` for what is missing, a folder, unreadable or empty; `.interrupted`.
    init(_ given: String, what: String, takesStandardInput: Bool = false) throws {
        if takesStandardInput, given == "-" {
            shown = "standard input"
            path = try InputSource.copy(.standard, what: what, shown)
            isCopy = true
            return
        }
        shown = given
        try InputFile.check(given, what: what)
        isCopy = !InputFile.isRegular(given)
        path =
            isCopy
            ? try InputSource.copy(ByteInput(given, what: what), what: what, given) : given
    }

    private static func copy(
        _ input: ByteInput, what: String, _ shown: String
    ) throws -> String {
        let folder = FileManager.default.temporaryDirectory.path
        let path = "\(folder)/loraq-input-\(UUID().uuidString).jsonl"
        let file = try OutputFile(path, replaces: false)
        do {
            var count = 0
            while true {
                let piece = try input.read()
                if piece.isEmpty { break }
                try file.write(piece)
                count += piece.count
            }
            guard count > 0 else { throw ToolError.usage("\(what) \(shown) is empty") }
            try file.commit()
        } catch {
            file.abandon()
            throw error
        }
        return path
    }

    deinit { if isCopy { unlink(path) } }
}
