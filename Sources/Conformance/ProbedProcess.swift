import Foundation
import Glibc

/// The program under test. Its output goes to a file.
final class ProbedProcess {
    private let process = Process()
    let output: URL

    /// - Parameters:
    ///   - command: Program and arguments; a program without `/` is looked up on `PATH`.
    ///   - environment: Added to the present one.
    init(_ command: [String], environment: [String: String], output: URL) throws {
        self.output = output
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = command
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        _ = FileManager.default.createFile(atPath: output.path, contents: nil)
        let handle = try FileHandle(forWritingTo: output)
        process.standardOutput = handle
        process.standardError = handle
        process.standardInput = FileHandle.nullDevice
        try process.run()
        try handle.close()
    }

    var isRunning: Bool { process.isRunning }
    /// Of a process that has ended; a signal's number plus 128.
    var status: Int32 {
        process.terminationReason == .exit
            ? process.terminationStatus : 128 + process.terminationStatus
    }

    /// How it stands after a wait of so many seconds.
    func present(after seconds: Double) -> String {
        isRunning ? "it still runs after \(Int(seconds)) s" : "it ended with status \(status)"
    }

    func terminate() { if process.isRunning { process.terminate() } }

    /// Ends it, and what it has started if it leads a process group.
    func kill() {
        let id = process.processIdentifier
        if getpgid(id) == id { Glibc.kill(-id, SIGKILL) }
        if process.isRunning { Glibc.kill(id, SIGKILL) }
        process.waitUntilExit()
    }

    var text: String {
        (try? Data(contentsOf: output)).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }

    /// The last thing that it said.
    var lastWords: String {
        let lines = text.split(separator: "\n").suffix(3).joined(separator: " / ")
        return lines.isEmpty ? "it said nothing" : "it said: \(lines.suffix(400))"
    }
}

/// A folder of the kit's own, gone with it.
final class ProbeFolder {
    let url: URL

    init() throws {
        url = URL(fileURLWithPath: "/tmp/lq-conf-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(
            at: url.appendingPathComponent("run"), withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o700])
    }

    func endpoint(_ name: String) -> String { "ipc://\(url.path)/run/\(name)" }

    deinit { try? FileManager.default.removeItem(at: url) }
}
