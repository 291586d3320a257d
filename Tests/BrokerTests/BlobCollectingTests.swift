import Dispatch
import JSONModel
import LinuxSystem
import Logging
import Synchronization
import Testing
import WireProtocol

@testable import Broker
@testable import BrokerCore
@testable import JobStore

/// A broker in the test's own process, whose loop the test reaches into.
private final class Bench {
    let folder: TemporaryFolder
    let server: BrokerServer
    let client: TestClient

    init() throws {
        folder = try TemporaryFolder()
        var log = Logger(label: "test")
        log.logLevel = .critical
        server = try BrokerServer(
            configuration: BrokerConfiguration(
                home: folder.path, programDirectory: "/nonexistent", environment: [:]), log: log)
        client = try TestClient(home: folder.path)
    }

    deinit {
        server.stop()
        server.waitUntilStopped()
    }

    /// Runs on the loop's thread and waits for it.
    func onLoop<T: Sendable>(_ body: @escaping @Sendable (EventLoop) -> T) -> T? {
        let result = Mutex<T?>(nil)
        let done = DispatchSemaphore(value: 0)
        server.inLoop { loop in
            let value = body(loop)
            result.withLock { $0 = value }
            done.signal()
        }
        done.wait()
        return result.withLock { $0 }
    }

    /// Uploads and makes the blob look as if that was long ago. Its digest.
    func oldBlob(_ text: String) throws -> WireProtocol.BlobDigest {
        let content = Array(text.utf8)
        let digest = ContentDigest(of: content)
        let wire = try WireProtocol.BlobDigest(checking: digest.text)
        _ = try client.get(
            PutReply.self, .put, PutRequest(digest: wire, bytesTotal: content.count),
            bodies: [Message.Body("piece", content)])
        _ = onLoop { loop in
            guard let digest = Digest(digest) else { return }
            loop.batch.mutations.append(.putBlob(digest, bytes: Int64(content.count), at: 1))
        }
        return wire
    }

    /// One round, from the beginning to its end.
    func collect() {
        var isAsked = false
        while !isAsked {
            isAsked =
                onLoop { loop in
                    // The broker's own first round comes with its first upkeep.
                    guard loop.upkeepTurns > 0, loop.blobRound == nil else { return false }
                    loop.collectBlobs(storedBefore: 1_000)
                    return true
                } ?? false
        }
        while onLoop({ $0.blobRound == nil }) != true {}
    }

    func has(_ digest: WireProtocol.BlobDigest) -> Bool {
        guard let content = ContentDigest(text: digest.text) else { return false }
        return FilePath.exists("\(folder.path)/blobs/\(content.hex.prefix(2))/\(content.hex)")
    }

    func submission(of digest: WireProtocol.BlobDigest) throws -> WireProtocol.Submission {
        WireProtocol.Submission(
            id: WireProtocol.JobID(timestampMs: WallClock.milliseconds(), random: (1, 2)),
            kind: try WireName(checking: "infer"), spec: .object(JSONObject()),
            inputs: [.init(name: try WireName(checking: "lines"), source: .blob(digest))])
    }
}

@Suite struct BlobCollectingTests {
    @Test func anOldBlobGoesAndOneThatIsAskedForAgainStays() throws {
        let bench = try Bench()
        let (old, asked) = (try bench.oldBlob("old\n"), try bench.oldBlob("asked for\n"))
        let reply = try bench.client.get(
            PutReply.self, .put, PutRequest(digest: asked, bytesTotal: 10))
        #expect(reply.complete)
        bench.collect()
        #expect(!bench.has(old))
        #expect(bench.has(asked))
        _ = try bench.client.get(
            SubmitReply.self, .submit, SubmitRequest(job: bench.submission(of: asked)))
    }

    @Test func aBlobThatAJobTookWhileTheStoreWasAskedStays() throws {
        let bench = try Bench()
        let digest = try bench.oldBlob("taken\n")
        let message = try Message(
            .submit, SubmitRequest(job: bench.submission(of: digest)), requestID: "r")
        let isAccepted = bench.onLoop { loop in
            // The store has answered that nothing needs it, and a submission comes in before that answer does.
            loop.blobRound = BlobRound()
            let request = PendingRequest(
                peer: Peer(channel: .control, routingID: [0, 1, 2, 3, 4]), verb: .submit,
                requestID: "r", hasDelimiter: false)
            do { try loop.submit(message, request) } catch { return false }
            loop.removeBlobs([Digest(digest)].compactMap { $0 })
            loop.blobRound = nil
            return true
        }
        #expect(isAccepted == true)
        #expect(bench.has(digest))
    }

    @Test func anUploadOfABlobThatWasRemovedMeanwhileBeginsAnew() throws {
        let bench = try Bench()
        let digest = try bench.oldBlob("removed\n")
        let content = try #require(ContentDigest(text: digest.text))
        // The disk's thread found it whole; then it was removed; then the loop answers.
        let progress = bench.onLoop { loop in
            _ = try? loop.blobs.withdraw(content)
            return loop.noteUpload(content, BlobProgress(received: 8, complete: true))
        }
        #expect(progress == BlobProgress(received: 0, complete: false))
        let submission = try bench.submission(of: digest)
        let error = #expect(throws: ErrorObject.self) {
            try bench.client.get(SubmitReply.self, .submit, SubmitRequest(job: submission))
        }
        #expect(error?.code == .unknownBlob)
        _ = try bench.oldBlob("removed\n")
        _ = try bench.client.get(SubmitReply.self, .submit, SubmitRequest(job: submission))
    }
}
