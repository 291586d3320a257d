import BrokerCore
import JSONModel
import LinuxSystem
import WireProtocol
import ZeroMQ

extension EventLoop {
    /// Takes what came on the control socket.
    func receiveControl() {
        receive(.control) { loop, peer, message in
            let request = PendingRequest(
                peer: peer, verb: message.verb, requestID: message.requestID,
                hasDelimiter: message.hasDelimiter)
            loop.again(message, request)
        }
    }

    /// Handles a request, for the first time or after it has waited.
    func again(_ message: Message, _ request: PendingRequest) {
        do {
            try handle(message, request)
        } catch let error as ErrorObject {
            fail(request, error)
        } catch let error as WireError {
            fail(request, error.errorObject)
        } catch let error as BrokerError {
            fail(request, error.wire)
        } catch {
            log.error("\(message.verb): \(error)")
            fail(request, ErrorObject(.internalError, .internal, "\(error)"))
        }
    }

    /// Takes a bounded number of messages; what is no message of LQP/1 gets an `ERROR`.
    func receive(
        _ channel: Channel, _ handle: (EventLoop, Peer, Message) -> Void
    ) {
        for _ in 0..<configuration.messagesPerTurn {
            let frames: [[UInt8]]?
            do {
                switch channel {
                case .control: frames = try control.receive(maximumFrames: 1_024)
                case .dispatch: frames = try dispatch.receive(maximumFrames: 1_024)
                }
            } catch {
                noteMalformed("\(error)")
                continue
            }
            guard let frames else { return }
            guard let routingID = frames.first, !routingID.isEmpty else { continue }
            let peer = Peer(channel: channel, routingID: routingID)
            do {
                handle(self, peer, try Message(frames: Array(frames.dropFirst())))
            } catch {
                noteMalformed("\(error)")
                var answer = Message.error(error.errorObject, requestID: error.requestID)
                answer.hasDelimiter = frames.count > 1 && frames[1].isEmpty
                send(answer, to: peer)
            }
        }
    }

    /// Counts bad input, and logs it seldom enough that it cannot fill the log.
    func noteMalformed(_ reason: String) {
        malformed += 1
        if malformed <= 10 || malformed.isMultiple(of: 1_000) {
            log.warning("malformed message number \(malformed): \(reason)")
        }
    }

    // MARK: Answering

    func reply(
        _ request: PendingRequest, _ header: some Encodable, verb: Verb = .ok,
        bodies: [Message.Body] = []
    ) {
        do {
            var message = try Message(verb, header, requestID: request.requestID, bodies: bodies)
            message.hasDelimiter = request.hasDelimiter
            // Found out now, and not when it is sent.
            batch.deferred.append(.reply(request, message))
        } catch {
            fail(request, error.errorObject)
        }
    }

    func fail(_ request: PendingRequest, _ error: ErrorObject) {
        batch.deferred.append(.reply(request, request.message(error: error)))
    }

    /// The core's number for a request that it will answer by an action.
    func expectReply(_ request: PendingRequest) -> RequestID {
        lastRequest += 1
        let id = RequestID(lastRequest)
        requests[id] = request
        return id
    }

    // MARK: Verbs

    private func handle(_ message: Message, _ request: PendingRequest) throws {
        switch message.verb {
        case .hello:
            _ = try message.decode(ClientHello.self)
            return reply(request, welcome, verb: .welcome)
        case .ping: return replyNow(request, ping)
        case .put: return try put(message, request)
        default: break
        }
        guard core != nil else { return fail(request, Self.storeUnavailable) }
        switch message.verb {
        case .submit: try submit(message, request)
        case .submitBatch: try submitBatch(message, request)
        case .status: try status(message, request)
        case .list: try list(message, request)
        case .cancel: try cancel(message, request)
        case .hold: try select(message, request) { .hold($0, request: $1) }
        case .release: try select(message, request) { .release($0, request: $1) }
        case .retry: try retry(message, request)
        case .explain: try explain(message, request)
        case .fetch: try fetch(message, request)
        case .verify: try verify(message, request)
        case .backup: try startBackup(message, request)
        case .input: try input(message, request)
        case .events: try listEvents(message, request)
        case .artifacts: try listArtifacts(message, request)
        case .get: try get(message, request)
        case .tag: try tag(message, request)
        case .remove: try remove(message, request)
        case .workers: reply(request, try workersReply())
        case .scale: try scale(message, request)
        case .logs: try logs(message, request)
        case .attach: try attach(message, request)
        case .detach: try detach(message, request)
        case .drain: try drain(message, request)
        default:
            throw ErrorObject(
                .unknownVerb, .user, "\(message.verb) is no request of LQP/1 on this socket")
        }
    }

    private var welcome: ClientWelcome {
        ClientWelcome(
            brokerVersion: BrokerVersion.current, epoch: Int(store.epoch),
            heartbeatMs: configuration.limits.heartbeatMilliseconds, features: [])
    }

    private var ping: PingReply {
        let counts = core?.jobCounts ?? [:]
        return PingReply(
            epoch: Int(store.epoch), brokerVersion: BrokerVersion.current,
            uptimeMs: (now - startedAt).wholeMilliseconds,
            jobs: Dictionary(uniqueKeysWithValues: counts.map { ($0.key.rawValue, $0.value) }))
    }

    // MARK: Blobs

    private func put(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(PutRequest.self)
        guard let digest = ContentDigest(text: header.digest.text) else {
            throw ErrorObject(.badHeader, .user, "`digest` is not a digest")
        }
        if let named = Digest(digest), waits(for: named, { $0.again(message, request) }) { return }
        guard disk.backlog < configuration.maximumBacklog else {
            throw ErrorObject(
                .limit, .retryable, "too many uploads wait for the disk", retryAfterMs: 500)
        }
        let piece = message.body("piece")
        let wireDigest = header.digest
        offload(disk) { [blobs] in
            Result { () throws(ErrorObject) in
                try blobs.put(
                    digest, total: header.bytesTotal, offset: header.offset, piece: piece)
            }
        } then: { loop, result in
            switch result {
            case .failure(let error): loop.fail(request, error)
            case .success(let progress):
                let named = Digest(digest)
                if let named, loop.waits(for: named, { $0.again(message, request) }) { return }
                // Also of one that was there already: it counts as new again for those who collect.
                if progress.complete { loop.noteBlob(digest, bytes: progress.received) }
                loop.reply(
                    request,
                    PutReply(
                        digest: wireDigest, received: progress.received,
                        complete: progress.complete))
            }
        }
    }

    /// Records a blob, so that it is found again when nothing needs it any more.
    func noteBlob(_ digest: ContentDigest, bytes: Int) {
        guard core != nil, let digest = Digest(digest) else { return }
        batch.mutations.append(.putBlob(digest, bytes: Int64(bytes), at: moment.wall))
    }
}
