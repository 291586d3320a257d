import Foundation
import JSONModel
import LinuxSystem

/// Lets `lora-worker` write an exported adapter in llama.cpp's form: this program computes nothing.
enum AdapterGGUF {
    static let fileName = "adapter.gguf"

    /// The version of its model that the adapter was made for: the newest with the same base weights.
    private static func baseModel(of adapter: JSONValue, _ session: Session) throws -> String {
        let name = adapter["name"]?.string ?? ""
        let model = String(name.prefix { $0 != ":" })
        let base = adapter["meta"]?["base"]?.string
        let versions = try session.client.artifacts(type: "model", name: model).filter {
            $0["name"]?.string == model && $0["meta"]?["base"]?.string == base
        }.compactMap { $0["version"]?.integer }
        guard let version = versions.max() else {
            throw ToolError(
                .failure, "no version of \(model) has the weights that \(name) was made for",
                hint: "add that model again: loraq models add \(model) PATH")
        }
        return "\(model)@\(version)"
    }

    /// - Parameters:
    ///   - adapter: The adapter's artifact object.
    ///   - folder: Holds it as a PEFT folder.
    /// - Throws: `ToolError` with what `lora-worker` said; the PEFT folder stays.
    static func write(_ adapter: JSONValue, in folder: String, _ session: Session) throws {
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
        try ArtifactDownload(session: session, reference: baseModel(of: adapter, session))
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
