import Foundation
import Testing

@testable import ZeroMQ

private let patience = Duration.seconds(20)

private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

@Suite struct SocketTests {
    @Test func dealerAndRouterPassFramesBothWays() throws {
        let context = try Context()
        let router = try Socket(context, .router)
        let endpoint = try router.bind("tcp://127.0.0.1:*")
        let dealer = try Socket(context, .dealer)
        try dealer.connect(endpoint)
        let message = [bytes("LQP/1"), bytes("PING"), bytes("{}"), [], [0, 255, 10]]
        #expect(try dealer.send(message) == .sent)
        let got = try #require(try router.receive(within: patience))
        #expect(Array(got.dropFirst()) == message)
        #expect(try router.send([got[0], bytes("pong")], within: patience) == .sent)
        #expect(try dealer.receive(within: patience) == [bytes("pong")])
        #expect(try dealer.receive() == nil)
    }

    @Test func requestSocketSendsADelimiter() throws {
        let context = try Context()
        let router = try Socket(context, .router)
        try router.bind("inproc://control")
        let request = try Socket(context, .request)
        try request.connect("inproc://control")
        #expect(try request.send([bytes("a")]) == .sent)
        let got = try #require(try router.receive(within: patience))
        #expect(got.count == 3 && got[1].isEmpty && got[2] == bytes("a"))
        #expect(try router.send([got[0], [], bytes("b")]) == .sent)
        #expect(try request.receive(within: patience) == [bytes("b")])
    }

    @Test func aMessageToNobodyIsUnroutable() throws {
        let router = try Socket(Context(), .router)
        try router.bind("inproc://nobody")
        #expect(try router.send([[1, 2, 3, 4, 5], bytes("x")]) == .unroutable)
        // The socket still works afterwards.
        #expect(try router.receive() == nil)
    }

    @Test func aFullQueueWouldBlockAndNothingIsTorn() throws {
        let context = try Context()
        let options = SocketOptions.with {
            $0.sendHighWaterMark = 2
            $0.receiveHighWaterMark = 2
        }
        let pull = try Socket(context, .pull, options: options)
        try pull.bind("inproc://full")
        let push = try Socket(context, .push, options: options)
        try push.connect("inproc://full")
        var sent = 0
        while sent < 100, try push.send([[UInt8(sent)], [1], [2]]) == .sent { sent += 1 }
        #expect(sent >= 2 && sent < 100)
        for index in 0..<sent {
            #expect(try pull.receive(within: patience) == [[UInt8(index)], [1], [2]])
        }
        #expect(try pull.receive() == nil)
    }

    @Test func pushWithoutPeerWouldBlock() throws {
        let push = try Socket(Context(), .push, options: .with { $0.immediate = true })
        try push.connect("tcp://127.0.0.1:9")
        #expect(try push.send([[1]]) == .wouldBlock)
        #expect(try push.send([[1]], within: .milliseconds(1)) == .wouldBlock)
    }

    @Test func messagesOverTheLimitAreDroppedWhole() throws {
        let context = try Context()
        let pull = try Socket(context, .pull)
        try pull.bind("inproc://limit")
        let push = try Socket(context, .push)
        try push.connect("inproc://limit")
        #expect(try push.send(Array(repeating: [7], count: 20)) == .sent)
        #expect(try push.send([[8]]) == .sent)
        let error = #expect(throws: ZeroMQError.self) { try pull.receive(maximumFrames: 10) }
        #expect(error?.code == .tooLarge)
        #expect(try pull.receive() == [[8]])
    }

    @Test func largeFramesArriveWhole() throws {
        let context = try Context()
        let pull = try Socket(context, .pull)
        let endpoint = try pull.bind("tcp://127.0.0.1:*")
        let push = try Socket(context, .push)
        try push.connect(endpoint)
        let piece = (0..<(4 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        #expect(try push.send([piece, [1]], within: patience) == .sent)
        #expect(try pull.receive(within: patience) == [piece, [1]])
    }

    @Test func subscriptionsFilterByTopic() throws {
        let context = try Context()
        let events = try Socket(context, .extendedPublish)
        try events.bind("inproc://events")
        let listener = try Socket(context, .subscribe)
        try listener.subscribe(to: "job/")
        try listener.connect("inproc://events")
        // XPUB tells of the subscription, so nothing is published too early.
        #expect(try events.receive(within: patience) == [[1] + bytes("job/")])
        #expect(try events.send([bytes("worker/a"), [1]]) == .sent)
        #expect(try events.send([bytes("job/b"), [2]]) == .sent)
        #expect(try listener.receive(within: patience) == [bytes("job/b"), [2]])
    }
}

@Suite struct EndpointTests {
    @Test func longPathsAreRefusedWithTheirLength() throws {
        let socket = try Socket(Context(), .router)
        let path = "/tmp/" + String(repeating: "x", count: 103)
        let error = #expect(throws: ZeroMQError.self) { try socket.bind("ipc://" + path) }
        #expect(error?.code == .invalidEndpoint)
        #expect(error?.description.contains("108 bytes") == true)
        #expect(error?.description.contains("at most 107") == true)
    }

    @Test func takenPortsAndNonsenseAreTold() throws {
        let context = try Context()
        let first = try Socket(context, .pull)
        let endpoint = try first.bind("tcp://127.0.0.1:*")
        let second = try Socket(context, .pull)
        #expect(throws: ZeroMQError.self) { try second.bind(endpoint) }
        do { try second.bind(endpoint) } catch { #expect(error.code == .addressInUse) }
        do { try second.connect("nonsense") } catch { #expect(error.code == .invalidEndpoint) }
    }

    @Test func curveEncryptsBetweenKeyedPeers() throws {
        guard Context.hasCurve else { return }
        let context = try Context()
        let server = try CurveKeyPair()
        let client = try CurveKeyPair()
        let router = try Socket(
            context, .router, options: .with { $0.curve = .server(secretKey: server.secretKey) })
        let endpoint = try router.bind("tcp://127.0.0.1:*")
        let dealer = try Socket(
            context, .dealer,
            options: .with {
                $0.curve = .client(
                    serverKey: server.publicKey, publicKey: client.publicKey,
                    secretKey: client.secretKey)
            })
        try dealer.connect(endpoint)
        #expect(try dealer.send([bytes("sealed")]) == .sent)
        #expect(try router.receive(within: patience)?.last == bytes("sealed"))
    }
}

@Suite struct PollerTests {
    @Test func aWakeupFromAnotherThreadEndsTheWait() throws {
        let wakeup = try Wakeup()
        let descriptor = wakeup.descriptor
        // A thread of its own: the cooperative pool may be full of tests that block.
        Thread.detachNewThread { wakeup.signal() }
        var poller = Poller()
        let slot = poller.add(descriptor: descriptor)
        #expect(try poller.wait(atMost: patience) == 1)
        #expect(poller.events(of: slot) == .input)
        wakeup.clear()
        #expect(try poller.wait(atMost: .zero) == 0)
    }

    @Test func socketsAndDescriptorsAreWatchedTogether() throws {
        let context = try Context()
        let pull = try Socket(context, .pull)
        try pull.bind("inproc://both")
        let push = try Socket(context, .push)
        try push.connect("inproc://both")
        let wakeup = try Wakeup()
        var poller = Poller()
        let gone = poller.add(descriptor: wakeup.descriptor)
        let socketSlot = poller.add(pull, .input)
        poller.remove(gone)
        #expect(try push.send([[1]]) == .sent)
        #expect(try poller.wait(atMost: patience) == 1)
        #expect(poller.events(of: socketSlot) == .input)
        #expect(poller.add(descriptor: wakeup.descriptor) == gone)
        wakeup.signal()
        #expect(try poller.wait(atMost: patience) == 2)
    }

    @Test func durationsRoundUp() {
        #expect(Duration.microseconds(1).wholeMilliseconds == 1)
        #expect(Duration.milliseconds(1_500).wholeMilliseconds == 1_500)
        #expect(Duration.seconds(-3).wholeMilliseconds == 0)
        #expect(Duration.seconds(Int64.max).wholeMilliseconds == 2_000_000_000)
    }
}
