import Dispatch
import LinuxSystem
import Logging
import Synchronization
import Testing
import WireProtocol

@testable import Broker
@testable import BrokerCore

/// KINDS 25: what is collected is what nothing needs, whenever somebody names it again.
@Suite(.serialized) struct CollectingTests {
    private final class Home {
        let folder: TemporaryFolder
        let server: BrokerServer
        let client: TestClient

        init() throws {
            folder = try TemporaryFolder()
            let configuration = BrokerConfiguration(
                home: folder.path, programDirectory: "/nonexistent", environment: [:])
            var log = Logger(label: "test")
            log.logLevel = .error
            server = try BrokerServer(configuration: configuration, log: log)
            client = try TestClient(home: folder.path)
        }

        deinit {
            server.stop()
            server.waitUntilStopped()
        }

        /// Does something in the loop's thread and waits for it.
        func inLoop<T: Sendable>(_ body: @escaping @Sendable (EventLoop) -> T) -> T? {
            let done = DispatchSemaphore(value: 0)
            let value = Mutex<T?>(nil)
            server.inLoop { loop in
                let result = body(loop)
                value.withLock { $0 = result }
                done.signal()
            }
            done.wait()
            return value.withLock { $0 }
        }

        /// Begins to remove a blob as if it had been stored long ago.
        func condemn(_ content: ContentDigest) throws {
            let digest = try #require(Digest(content))
            _ = inLoop { loop in
                loop.batch.mutations.append(.putBlob(digest, bytes: 1, at: 1))
                loop.condemn([digest])
            }
        }

        func put(_ content: [UInt8], piece: Bool) throws -> PutReply {
            let digest = try BlobDigest(checking: ContentDigest(of: content).text)
            return try client.get(
                PutReply.self, .put,
                PutRequest(digest: digest, bytesTotal: content.count, offset: 0),
                bodies: piece ? [Message.Body("piece", content)] : [])
        }

        func path(_ content: [UInt8]) -> String {
            let digest = ContentDigest(of: content)
            return "\(folder.path)/blobs/\(digest.hex.prefix(2))/\(digest.hex)"
        }
    }

    @Test func aBlobThatIsNamedWhileItIsRemovedCanBeUploadedAnew() throws {
        let home = try Home()
        let content = Array("nobody needs this yet".utf8)
        #expect(try home.put(content, piece: true).complete)
        try home.condemn(ContentDigest(of: content))
        // Asked in the middle of it, or just after: never "it is there", and then it is not.
        let reply = try home.put(content, piece: false)
        #expect(!reply.complete && reply.received == 0)
        #expect(!FilePath.exists(home.path(content)))
        #expect(try home.put(content, piece: true).complete)
        #expect(FilePath.exists(home.path(content)))
    }

    @Test func aBlobThatIsAskedForIsNewAgain() throws {
        let home = try Home()
        let content = Array("asked for".utf8)
        #expect(try home.put(content, piece: true).complete)
        let digest = try #require(Digest(ContentDigest(of: content)))
        _ = home.inLoop { $0.batch.mutations.append(.putBlob(digest, bytes: 1, at: 1)) }
        #expect(try home.put(content, piece: false).complete)
        _ = home.inLoop { $0.condemn([digest]) }
        while home.inLoop({ $0.condemned.isEmpty }) != true {}
        #expect(FilePath.exists(home.path(content)))
    }

    @Test func aBlobOfAJobStays() throws {
        let home = try Home()
        let worker = try FakeWorker(home: home.folder.path, kinds: ["kind"], credit: [:]) { _, _ in
            nil
        }
        defer { worker.stop() }
        while try home.client.get(WorkersReply.self, .workers, EmptyHeader()).workers.isEmpty {}
        let content = Array("needed".utf8)
        #expect(try home.put(content, piece: true).complete)
        let digest = ContentDigest(of: content)
        // Submitted and condemned in the same turn: the submission is not in the store yet when the removal begins.
        let submission = WireProtocol.Submission(
            id: WireProtocol.JobID(timestampMs: WallClock.milliseconds(), random: (1, 1)),
            kind: try WireName(checking: "kind"), spec: .object([:]),
            inputs: [
                .init(
                    name: try WireName(checking: "data"),
                    source: .blob(try BlobDigest(checking: digest.text)))
            ])
        #expect(
            try home.client.get(SubmitReply.self, .submit, SubmitRequest(job: submission)).job
                == submission.id)
        try home.condemn(digest)
        while home.inLoop({ $0.condemned.isEmpty }) != true {}
        #expect(FilePath.exists(home.path(content)))
    }

    @Test func limitsThatMayBeSetAreKnownByName() {
        var limits = Limits()
        let all = Limits.settableNames.map { limits.set($0, to: 7) }
        #expect(all.allSatisfy { $0 } && all.count > 15)
        #expect(limits.artifacts == 7 && limits.window == 7)
        let refused = [
            limits.set("specBytes", to: 1), limits.set("window", to: 0),
            limits.set("window", to: Int.max), limits.set("nonsense", to: 1),
        ]
        #expect(!refused.contains(true))
        #expect(limits.specBytes == Limits().specBytes && limits.window == 7)
    }
}
