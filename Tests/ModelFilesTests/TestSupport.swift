import Foundation
import LinuxSystem
import Testing

@testable import ModelFiles

/// Files kept in the repository for these tests.
enum Fixture {
    static let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent()
    static let folder = tests.appendingPathComponent("Fixtures/ModelFiles").path
    static let seedling = tests.deletingLastPathComponent()
        .appendingPathComponent("examples/seedling").path
}

/// A folder of one test, removed at its end.
func withTemporaryFolder(_ body: (String) throws -> Void) throws {
    let path = NSTemporaryDirectory() + "loraq-modelfiles-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: path) }
    try body(path)
}

func write(_ bytes: [UInt8], _ path: String) throws {
    try Data(bytes).write(to: URL(fileURLWithPath: path))
}

func littleEndian<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { [UInt8]($0) }
}

/// A safetensors file with this header text and data.
func safetensors(_ header: String, data: Int) -> [UInt8] {
    littleEndian(UInt64(header.utf8.count)) + Array(header.utf8)
        + [UInt8](repeating: 1, count: data)
}

/// The error that `body` throws, or a recorded failure.
func modelFileError(
    _ sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> some Any
) -> ModelFileError? {
    do {
        _ = try body()
        Issue.record("nothing was thrown", sourceLocation: sourceLocation)
    } catch let error as ModelFileError {
        return error
    } catch {
        Issue.record("another error: \(error)", sourceLocation: sourceLocation)
    }
    return nil
}
