import Foundation
import LinuxSystem

/// Lets `lora-worker` write an exported adapter in llama.cpp's form: this program computes nothing.
enum AdapterGGUF {
    static let fileName = "adapter.gguf"

    /// - Parameter folder: Holds the adapter as a PEFT folder.
    /// - Throws: `ToolError` with what `lora-worker` said; the PEFT folder stays.
    static func write(_ reference: String, in folder: String, _ session: Session) throws {
        let installation = Installation(ownPath: DetachedProcess.ownPath())
        let path = ProcessInfo.processInfo.environment["PATH"]
        guard let program = installation.find("lora-worker", path: path) else {
            throw ToolError(
                .failure, "lora-worker is neither beside loraq nor on PATH",
                hint: "the adapter is in \(folder) as a PEFT folder")
        }
        // The base's configuration says how its heads lie.
        let base = "\(folder)/.base"
        try DurableFile.createDirectories(base, mode: 0o755)
        defer { try? DurableFile.removeTree(base) }
        let model = String(reference.prefix { $0 != ":" })
        try ArtifactDownload(session: session, reference: model)
            .write(only: "config.json", to: base)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = ["adapter-gguf", folder, base, "\(folder)/\(fileName)"]
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        let errors = Pipe()
        process.standardError = errors
        try process.run()
        let text = errors.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw ToolError(
                .failure,
                String(decoding: text.prefix(4096), as: UTF8.self)
                    .trimmingCharacters(in: .whitespacesAndNewlines),
                hint: "the adapter is in \(folder) as a PEFT folder")
        }
    }
}
