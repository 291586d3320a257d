import BrokerCore
import WireProtocol
import ZeroMQ

extension EventLoop {
    /// Takes what came from workers on the dispatch socket.
    func receiveDispatch() {
        receive(.dispatch) { loop, peer, message in
            do {
                try loop.handleWorker(message, peer)
            } catch {
                loop.noteMalformed("\(message.verb) of a worker: \(error)")
                var answer = Message.error(
                    EventLoop.errorObject(of: error), requestID: message.requestID)
                answer.hasDelimiter = message.hasDelimiter
                loop.send(answer, to: peer)
            }
        }
    }

    private func handleWorker(_ message: Message, _ peer: Peer) throws {
        // While the store is away workers hear nothing more; they say HELLO again once it is back.
        guard core != nil else {
            if message.verb == .hello { throw Self.storeUnavailable }
            return
        }
        let number = peers.number(of: peer.routingID)
        switch message.verb {
        case .hello: try hello(message, number)
        case .credit:
            let header = try message.decode(CreditHeader.self)
            guard let session = Token(text: header.session) else { return unknownSession(number) }
            step(.workerCredit(peer: number, session: session, classes: header.classes))
        case .beat: try beat(message, number)
        case .defer:
            let header = try message.decode(DeferHeader.self)
            guard let session = Token(text: header.session) else { return unknownSession(number) }
            step(
                .workerDefer(
                    peer: number, session: session, tasks: header.tasks.map(AttemptKey.init),
                    reason: header.reason, retryAfterMilliseconds: header.retryAfterMs))
        case .bye:
            let header = try message.decode(ByeHeader.self)
            guard let session = Token(text: header.session) else { return unknownSession(number) }
            sessions.removeValue(forKey: header.session)
            step(.workerBye(peer: number, session: session))
        default:
            throw ErrorObject(
                .unknownVerb, .user, "\(message.verb) is no message of LQP/1 on this socket")
        }
    }

    private func hello(_ message: Message, _ peer: PeerID) throws {
        let header = try message.decode(Wire.WorkerHello.self)
        guard WireName(text: header.instance) != nil else {
            throw ErrorObject(.badHeader, .user, "`instance` must be \(WireName.form)")
        }
        guard let pid = Int32(exactly: header.pid), pid > 0 else {
            throw ErrorObject(.badHeader, .user, "`pid` is no process id")
        }
        let ticks = header.startTicks.flatMap { UInt64(exactly: $0) }
        guard supervisor.mayBe(instance: header.instance, pid: pid) else {
            throw ErrorObject(
                .conflict, .user, "another process runs as \(header.instance) already")
        }
        noteUnlisted(header)
        helloRequests[peer] = message.requestID
        supervisor.isReady(instance: header.instance, pid: pid, startTicks: ticks)
        var hello = WorkerHello(
            peer: peer, instance: header.instance, plugin: header.plugin.text,
            pluginVersion: header.pluginVersion, pid: pid, startTicks: ticks,
            kinds: header.kinds.map(\.text), numerics: header.numerics,
            holding: header.holding.map { AttemptKey($0.reference) })
        for held in header.holding {
            hello.holdingClasses[AttemptKey(held.reference)] = held.class?.text
        }
        step(.workerHello(hello))
    }

    /// A worker that somebody started by hand, of no configured plugin: each of its kinds is a class of its own.
    private func noteUnlisted(_ header: Wire.WorkerHello) {
        let name = header.plugin.text
        guard supervisor.catalog[name] == nil, unlistedPlugins.count < 1_000 else { return }
        unlistedPlugins[name] = PluginDescription(
            name: name,
            kinds: header.kinds.map { PluginKind(name: $0.text, resourceClass: $0.text) },
            instances: 0)
    }

    var pluginDescriptions: [PluginDescription] {
        supervisor.descriptions
            + unlistedPlugins.values.sorted { $0.name < $1.name }
    }

    private func beat(_ message: Message, _ peer: PeerID) throws {
        let header = try message.decode(BeatHeader.self)
        guard let session = Token(text: header.session) else { return unknownSession(peer) }
        step(
            .workerBeat(
                WorkerBeat(
                    peer: peer, session: session,
                    held: header.held.map {
                        HeldAttempt(key: AttemptKey($0.reference), progress: Int64($0.progress))
                    },
                    residentBytes: Int64(header.rssBytes),
                    peakBytes: header.peakBytes.map(Int64.init),
                    loaded: header.loaded?.compactMap { Digest($0) })))
    }

    func unknownSession(_ peer: PeerID) {
        batch.deferred.append(.action(.unknownSession(peer)))
    }

    // MARK: Subscriptions

    func receiveSubscriptions() {
        guard !events.receiveSubscriptions(limit: configuration.messagesPerTurn, &poller) else {
            return
        }
        log.warning(
            "more than \(EventSocket.maximumTopics) topics were subscribed to: every subscriber is hung up and may connect again"
        )
    }

    func publish(_ event: EventObject) {
        guard events.topics > 0 else { return }
        do {
            let frames = try Message(.event, event).frames()
            try events.send([Array(event.topic.utf8)] + frames)
        } catch {
            log.error("an event could not be published: \(error)")
        }
    }
}
