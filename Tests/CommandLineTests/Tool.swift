import Foundation
import LinuxSystem

/// Runs the built `loraq` as a shell would, with a home folder of its own under a short path.
final class Tool: Sendable {
    struct Outcome {
        let status: Int32
        let output: String
        let errors: String
    }

    /// A run under way; its output lies in files, so that no pipe can fill up.
    struct Run {
        fileprivate let process: Process
        fileprivate let ended: DispatchSemaphore
        fileprivate let output: String
        fileprivate let errors: String

        var errorsSoFar: String { Tool.text(errors) }
        var outputSoFar: String { Tool.text(output) }
        var isRunning: Bool { process.isRunning }

        func interrupt() { process.interrupt() }

        /// Waits for the end; what does not end by itself is killed and shows by its status.
        func finish() -> Outcome {
            if ended.wait(timeout: .now() + .seconds(90)) == .timedOut {
                kill(process.processIdentifier, SIGKILL)
            }
            process.waitUntilExit()
            return Outcome(
                status: process.terminationStatus, output: outputSoFar, errors: errorsSoFar)
        }
    }

    /// `.build/release/loraq` of this package.
    static let path: String = {
        let root = URL(fileURLWithPath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        return root.appendingPathComponent(".build/release/loraq").path
    }()

    let folder: String
    var home: String { folder + "/h" }

    init() throws {
        folder = "/tmp/lqx-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
        try DurableFile.createDirectories(folder + "/h")
    }

    deinit { try? DurableFile.removeTree(folder) }

    func start(_ arguments: [String]) throws -> Run {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Tool.path)
        process.arguments = arguments
        var environment = ProcessInfo.processInfo.environment
        environment["LORAQ_HOME"] = home
        environment["NO_COLOR"] = "1"
        process.environment = environment
        let name = "\(folder)/\(UInt32.random(in: 0...UInt32.max))"
        try DurableFile.write("", to: name + ".out")
        try DurableFile.write("", to: name + ".err")
        process.standardOutput = FileHandle(forWritingAtPath: name + ".out")
        process.standardError = FileHandle(forWritingAtPath: name + ".err")
        process.standardInput = FileHandle.nullDevice
        let ended = DispatchSemaphore(value: 0)
        process.terminationHandler = { _ in ended.signal() }
        try process.run()
        return Run(
            process: process, ended: ended, output: name + ".out", errors: name + ".err")
    }

    func run(_ arguments: [String]) throws -> Outcome { try start(arguments).finish() }
    func run(_ arguments: String...) throws -> Outcome { try run(arguments) }

    private static func text(_ path: String) -> String {
        String(decoding: (try? FilePath.read(path)) ?? [], as: UTF8.self)
    }
}
