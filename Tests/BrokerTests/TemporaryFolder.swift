import Glibc
import LinuxSystem

/// A fresh folder with a short path (sockets lie in it), removed with the object.
final class TemporaryFolder: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/lqXXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw SystemError(operation: "make a folder in", path: "/tmp", code: errno)
        }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { try? DurableFile.removeTree(path) }

    func write(_ name: String, _ text: String) throws -> String {
        let file = "\(path)/\(name)"
        try DurableFile.write(text, to: file)
        return file
    }
}

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }
