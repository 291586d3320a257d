import JSONModel
import LinuxSystem

/// Reads the small JSON files that stand beside a model's weights.
public enum JSONFile {
    /// Larger files are refused before they are parsed.
    public static let maximumBytes = 256 << 20

    /// - Throws: `ModelFileError` with the path, and line and column where the text is no JSON.
    public static func read(_ path: String) throws -> JSONValue {
        let bytes = try readBytes(path)
        do { return try JSONValue.parse(bytes) } catch {
            throw ModelFileError(.malformed, file: path, "is no JSON: \(error)")
        }
    }

    /// A file's whole contents.
    public static func readBytes(_ path: String, limit: Int = maximumBytes) throws -> [UInt8] {
        let file = try SourceFile(path: path)
        guard file.count <= limit else {
            throw ModelFileError(
                .malformed, file: path, "has \(file.count) bytes, more than \(limit)")
        }
        return try file.bytes(0..<file.count)
    }
}
