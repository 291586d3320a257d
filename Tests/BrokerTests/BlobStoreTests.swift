import LinuxSystem
import Testing
import WireProtocol

@testable import Broker

@Suite struct BlobStoreTests {
    let folder: TemporaryFolder
    let content: [UInt8]
    let digest: ContentDigest

    init() throws {
        folder = try TemporaryFolder()
        content = (0..<10_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        digest = ContentDigest(of: content)
    }

    private func store(_ limits: BlobStore.Limits = .init()) throws -> BlobStore {
        try BlobStore(directory: "\(folder.path)/blobs", limits: limits)
    }

    @Test func piecesMakeABlob() throws {
        let store = try store()
        #expect(store.progress(of: digest) == BlobProgress(received: 0, complete: false))
        for offset in stride(from: 0, to: content.count, by: 3_000) {
            let end = min(offset + 3_000, content.count)
            let progress = try store.put(
                digest, total: content.count, offset: offset, piece: Array(content[offset..<end]))
            #expect(progress == BlobProgress(received: end, complete: end == content.count))
        }
        #expect(try FilePath.read(store.path(of: digest)) == content)
        #expect(store.size(of: digest) == content.count)
        #expect(try FilePath.entries(of: "\(folder.path)/blobs/.partial").isEmpty)
    }

    @Test func anUploadGoesOnWithAnotherBroker() throws {
        let first = try store()
        _ = try first.put(digest, total: content.count, offset: 0, piece: Array(content[..<4_000]))
        let second = try store()
        let asked = try second.put(digest, total: content.count, offset: 0, piece: nil)
        #expect(asked == BlobProgress(received: 4_000, complete: false))
        let done = try second.put(
            digest, total: content.count, offset: 4_000, piece: Array(content[4_000...]))
        #expect(done.complete)
        #expect(try FilePath.read(second.path(of: digest)) == content)
    }

    @Test func aPieceAtAnotherOffsetIsNotWritten() throws {
        let store = try store()
        _ = try store.put(digest, total: content.count, offset: 0, piece: Array(content[..<100]))
        for offset in [0, 50, 200] {
            let answer = try store.put(
                digest, total: content.count, offset: offset, piece: Array(content[..<100]))
            #expect(answer == BlobProgress(received: 100, complete: false))
        }
    }

    @Test func otherBytesThanAnnouncedAreForgotten() throws {
        let store = try store()
        var wrong = content
        wrong[17] ^= 1
        let error = #expect(throws: ErrorObject.self) {
            try store.put(digest, total: content.count, offset: 0, piece: wrong)
        }
        #expect(error?.code == .digestMismatch)
        #expect(store.progress(of: digest) == BlobProgress(received: 0, complete: false))
        // And the right ones can be sent afterwards.
        #expect(try store.put(digest, total: content.count, offset: 0, piece: content).complete)
    }

    @Test func moreBytesThanAnnouncedAreRefused() throws {
        let store = try store()
        let error = #expect(throws: ErrorObject.self) {
            try store.put(digest, total: 10, offset: 0, piece: content)
        }
        #expect(error?.code == .digestMismatch)
    }

    @Test func limitsAreStated() throws {
        var limits = BlobStore.Limits()
        limits.maximumBlobBytes = 9_999
        let small = try store(limits)
        let large = #expect(throws: ErrorObject.self) {
            try small.put(digest, total: content.count, offset: 0, piece: content)
        }
        #expect(large?.code == .limit && large?.class == .user)
        limits.maximumBlobBytes = 1 << 40
        limits.headroomBytes = Int.max / 2
        let full = try store(limits)
        let disk = #expect(throws: ErrorObject.self) {
            try full.put(digest, total: content.count, offset: 0, piece: content)
        }
        #expect(disk?.code == .limit && disk?.class == .retryable && disk?.hint != nil)
    }

    @Test func theEmptyBlobIsABlob() throws {
        let store = try store()
        let empty = ContentDigest(of: [])
        #expect(try store.put(empty, total: 0, offset: 0, piece: []).complete)
        #expect(store.size(of: empty) == 0)
    }

    @Test func bodiesAreStoredAtOnceAndTwiceIsOnce() throws {
        let store = try store()
        #expect(try store.store(content) == digest)
        #expect(try store.store(content) == digest)
        #expect(try FilePath.read(store.path(of: digest)) == content)
    }

    @Test func staleUploadsAreForgotten() throws {
        let store = try store()
        _ = try store.put(digest, total: content.count, offset: 0, piece: Array(content[..<100]))
        let now = WallClock.milliseconds() / 1_000
        try store.removeStale(now: now)
        #expect(store.progress(of: digest).received == 100)
        try store.removeStale(now: now + 8 * 86_400)
        #expect(store.progress(of: digest).received == 0)
    }
}
