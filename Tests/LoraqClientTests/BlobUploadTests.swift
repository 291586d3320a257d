import Foundation
import JSONModel
import LinuxSystem
import Synchronization
import Testing
import WireProtocol

@testable import LoraqClient

/// The broker's half of an upload: takes pieces in order, says how far it is.
private final class FakeBlobStore: Sendable {
    private let bytes: Mutex<[UInt8]>
    private let drops: Mutex<Set<Int>>
    let offsets = Mutex<[Int]>([])

    /// - Parameters:
    ///   - bytes: What an earlier upload brought.
    ///   - dropping: Which requests, counted from 1, are carried out but never answered.
    init(bytes: [UInt8] = [], dropping: Set<Int> = []) {
        self.bytes = Mutex(bytes)
        drops = Mutex(dropping)
    }

    var content: [UInt8] { bytes.withLock { $0 } }

    func answer(_ request: Message, _ number: Int) -> [Message] {
        let total = request.header["bytes_total"]?.integer ?? 0
        let offset = request.header["offset"]?.integer ?? 0
        let digest = request.header["digest"] ?? .null
        if let piece = request.body("piece") {
            offsets.withLock { $0.append(offset) }
            bytes.withLock { if $0.count == offset { $0 += piece } }
        }
        let held = content
        if held.count == total, .string(ContentDigest(of: held).text) != digest {
            bytes.withLock { $0.removeAll() }
            return [request.refusal(.digestMismatch, "the bytes have another digest")]
        }
        guard !drops.withLock({ $0.contains(number) }) else { return [] }
        return [
            request.ok([
                "digest": digest, "received": .integer(Int64(held.count)),
                "complete": .bool(held.count == total),
            ])
        ]
    }
}

@Suite struct BlobUploadTests {
    /// Ten and a bit MiB that differ everywhere.
    private static let content: [UInt8] = {
        var state: UInt64 = 1
        return (0..<(10 << 20) + 17).map { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt8(truncatingIfNeeded: state >> 33)
        }
    }()

    private func upload(
        _ store: FakeBlobStore, content: [UInt8] = content, change: Bool = false
    ) throws -> (UploadedFile, [UploadProgress]) {
        let folder = try ShortFolder()
        let path = folder.path + "/data"
        try DurableFile.write(content, to: path)
        let broker = try FakeBroker(home: folder.home) { store.answer($0, $1) }
        defer { broker.stop() }
        let client = try BrokerClient(home: folder.home)
        var policy = RequestPolicy(timeout: .seconds(20))
        policy.resendAfter = .milliseconds(200)
        var reports: [UploadProgress] = []
        let upload = BlobUpload(client: client, policy: policy) { progress in
            if change, progress.phase == .sending, progress.done == 0 {
                // In place: a file that is replaced by another is read to its end as it was.
                let handle = FileHandle(forWritingAtPath: path)
                try? handle?.write(contentsOf: content.reversed())
                try? handle?.close()
            }
            reports.append(progress)
        }
        return (try upload.send(path), reports)
    }

    @Test func aLargeFileArrivesInPieces() throws {
        let store = FakeBlobStore()
        let (file, reports) = try upload(store)
        #expect(store.content == Self.content)
        #expect(file.digest == ContentDigest(of: Self.content))
        #expect(file.bytes == Self.content.count)
        #expect(store.offsets.withLock { $0 } == [0, 4 << 20, 8 << 20])
        #expect(
            reports.last
                == UploadProgress(
                    phase: .sending, done: Self.content.count, total: Self.content.count))
        #expect(reports.first?.phase == .reading)
    }

    @Test func anUploadThatBrokeOffGoesOnWhereItWas() throws {
        let store = FakeBlobStore(bytes: Array(Self.content.prefix(5_000_000)))
        _ = try upload(store)
        #expect(store.content == Self.content)
        #expect(store.offsets.withLock { $0.first } == 5_000_000)
    }

    @Test func aLostAnswerDoesNotDoubleAPiece() throws {
        // The third request is the second piece.
        let store = FakeBlobStore(dropping: [3])
        _ = try upload(store)
        #expect(store.content == Self.content)
        #expect(store.offsets.withLock { $0 } == [0, 4 << 20, 4 << 20, 8 << 20])
    }

    @Test func whatTheBrokerHasIsNotSentAgain() throws {
        let store = FakeBlobStore(bytes: Self.content)
        _ = try upload(store)
        #expect(store.offsets.withLock { $0.isEmpty })
    }

    @Test func aFileThatChangesMeanwhileIsRefused() throws {
        let error = #expect(throws: ClientError.self) {
            try upload(FakeBlobStore(), content: Array(Self.content.prefix(6 << 20)), change: true)
        }
        #expect(error?.kind == .file)
        #expect(error?.message.contains("changed while it was uploaded") == true)
    }

    @Test func aMissingFileIsNamed() throws {
        let folder = try ShortFolder()
        let client = try BrokerClient(home: folder.home)
        let error = #expect(throws: ClientError.self) {
            try BlobUpload(client: client).send(folder.path + "/nothing")
        }
        #expect(error?.kind == .file)
        #expect(error?.message.contains("nothing: No such file or directory") == true)
    }
}
