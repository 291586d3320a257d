import Foundation
import Testing

@testable import LinuxSystem

/// A folder of its own for a test, gone afterwards.
struct TemporaryFolder: ~Copyable {
    let path: String
    init() throws {
        path = NSTemporaryDirectory() + "loraq-\(UUID().uuidString)"
        try DurableFile.createDirectories(path)
    }
    deinit { try? DurableFile.removeTree(path) }
}

@Suite struct DurableFileTests {
    @Test func replacesWholeFilesAndLeavesNoTemporaryName() throws {
        let folder = try TemporaryFolder()
        try DurableFile.write("one", to: "\(folder.path)/a")
        try DurableFile.write("two", to: "\(folder.path)/a")
        #expect(try FilePath.read("\(folder.path)/a") == Array("two".utf8))
        #expect(try FilePath.entries(of: folder.path) == ["a"])
    }

    @Test func abandonedWriterLeavesTheOldFile() throws {
        let folder = try TemporaryFolder()
        try DurableFile.write("old", to: "\(folder.path)/a")
        var writer = try DurableFileWriter(path: "\(folder.path)/a")
        try writer.append([UInt8](repeating: 7, count: 3 << 20))
        try writer.align(to: 4096)
        #expect(writer.count == 3 << 20)
        writer.abandon()
        #expect(try FilePath.read("\(folder.path)/a") == Array("old".utf8))
        #expect(try FilePath.entries(of: folder.path) == ["a"])
    }

    @Test func errorsNameOperationPathAndReason() throws {
        let error = #expect(throws: SystemError.self) {
            try DurableFile.write("x", to: "/nonexistent-folder/a")
        }
        #expect(error?.description.contains("/nonexistent-folder") == true)
        #expect(error?.description.contains("No such file") == true)
    }

    @Test func fullDiskLeavesNothing() throws {
        // /dev/full takes no byte: the writer's own temporary file cannot lie there, so write to it directly.
        let descriptor = open("/dev/full", O_WRONLY)
        defer { close(descriptor) }
        let error = [UInt8](repeating: 1, count: 10).withUnsafeBytes { bytes in
            #expect(throws: SystemError.self) {
                try writeAll(bytes, to: descriptor, path: "/dev/full")
            }
        }
        #expect(error?.isOutOfSpace == true)
    }

    @Test func removesTreesWithoutFollowingLinks() throws {
        let folder = try TemporaryFolder()
        try DurableFile.createDirectories("\(folder.path)/t/u")
        try DurableFile.write("kept", to: "\(folder.path)/kept")
        #expect(symlink("\(folder.path)/kept", "\(folder.path)/t/u/link") == 0)
        try DurableFile.removeTree("\(folder.path)/t")
        #expect(try FilePath.entries(of: folder.path) == ["kept"])
        try DurableFile.removeTree("\(folder.path)/absent")
    }

    @Test func secondLockNamesTheHolder() throws {
        let folder = try TemporaryFolder()
        let lock = try FileLock(path: "\(folder.path)/lock")
        let error = #expect(throws: FileLock.Held.self) {
            try FileLock(path: "\(folder.path)/lock")
        }
        #expect(error?.holder == Int(getpid()))
        withExtendedLifetime(lock) {}
    }

    @Test func digestsReadOnlyTheirOwnForm() throws {
        let digest = ContentDigest(of: Array("abc".utf8))
        #expect(digest.hex == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(ContentDigest(text: digest.text) == digest)
        #expect(ContentDigest(text: digest.hex) == nil)
        #expect(ContentDigest(text: "sha256:../../etc/passwd") == nil)
    }

    @Test func pathsAreResolvedAsText() {
        #expect(FilePath.absolute("/a/./b/../c/") == "/a/c")
        #expect(FilePath.parent(of: "/a/b") == "/a")
        #expect(FilePath.parent(of: "a") == ".")
        #expect(FilePath.name(of: "/a/b/") == "b")
    }

    @Test func mapsAndReadsBack() throws {
        let folder = try TemporaryFolder()
        try DurableFile.write([1, 2, 3], to: "\(folder.path)/m")
        let map = try MappedFile(path: "\(folder.path)/m")
        #expect(map.withUnsafeBytes { Array($0) } == [1, 2, 3])
        #expect(throws: SystemError.self) { try MappedFile(path: folder.path) }
    }

    @Test func copiesWholeFiles() throws {
        let folder = try TemporaryFolder()
        let bytes = (0..<(3 << 20) + 5).map { UInt8(truncatingIfNeeded: $0 * 7) }
        try DurableFile.write(bytes, to: "\(folder.path)/a")
        #expect(try DurableFile.copy("\(folder.path)/a", to: "\(folder.path)/b") == bytes.count)
        #expect(try FilePath.read("\(folder.path)/b") == bytes)
        #expect(throws: SystemError.self) {
            try DurableFile.copy("\(folder.path)/absent", to: "\(folder.path)/c")
        }
        #expect(try FilePath.entries(of: folder.path) == ["a", "b"])
    }

    @Test func threadsRunAndJoin() throws {
        let box = LockedBox(0)
        let thread = try SystemThread(name: "test-thread-name-too-long", cpus: [0]) { box.set(42) }
        thread.join()
        #expect(box.get() == 42)
    }
}

private final class LockedBox: @unchecked Sendable {
    private let lock = NSLock()
    private var value: Int
    init(_ value: Int) { self.value = value }
    func set(_ new: Int) { lock.withLock { value = new } }
    func get() -> Int { lock.withLock { value } }
}
