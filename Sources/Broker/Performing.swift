import BrokerCore
import Glibc
import JSONModel
import JobStore
import LinuxSystem
import WireProtocol

extension EventLoop {
    /// Does what the core asked for; its changes are on disk by now.
    func perform(_ action: Action) {
        switch action {
        case .reply(let request, let reply): answer(request, reply)
        case .lookUpJobs(let lookup, let ids): lookUp(lookup, ids)
        case .split(let request): split(request)
        case .loadLines(let request): loadLines(request)
        case .welcome(let peer, let welcome): self.welcome(peer, welcome)
        case .dispatch(let peer, let instance, let assignments):
            dispatch(peer, instance, assignments)
        case .beatAck(let peer, let drop):
            tell(peer, .beatAck) {
                BeatAckHeader(epoch: Int(self.store.epoch), drop: try drop.map { try $0.wire() })
            }
        case .cancelAttempts(let peer, let keys, let reason):
            tell(peer, .cancel) { StopHeader(tasks: try keys.map(Self.name), reason: reason) }
        case .preemptAttempts(let peer, let keys, let reason):
            tell(peer, .preempt) { StopHeader(tasks: try keys.map(Self.name), reason: reason) }
        case .acknowledge(let peer, let statuses): acknowledge(peer, statuses)
        case .unknownSession(let peer):
            guard let peer = peers.peer(peer) else { return }
            send(
                Message.error(
                    ErrorObject(
                        .unknownSession, .retryable, "this broker does not know the session",
                        hint: "say HELLO again, with what is held")), to: peer)
        case .drainWorker(let peer, _): tell(peer, .drain) { EmptyHeader() }
        case .killWorker(let instance, let reason):
            log.warning("killing \(instance): \(reason)")
            supervisor.kill(instance)
        case .publish(let event):
            if let number = event.number { lastEvent = max(lastEvent, number) }
            guard events.topics > 0, let object = try? event.wire(last: lastEvent) else { return }
            publish(object)
        case .resultAccepted(let record):
            if !sinks.isEmpty { pushResult(record) }
        case .jobEnded(let job, let state): ended(job, state)
        case .artifactsRemoved(let records): delete(records)
        }
    }

    private func ended(_ job: JobID, _ state: JobState) {
        splits.removeValue(forKey: job)?.cancel()
        segments.forget(job: job.text)
        pipeline.close(job: job)
        jobCaches.forget(job)
        jobLogs.ended(job)
        if !sinks.isEmpty { pushEnd(job, state) }
    }

    private func lookUp(_ lookup: Int64, _ ids: [JobID]) {
        let generation = coreGeneration
        store.findJobs(ids) { [inbox] result in
            let found = result.map { FoundJobs(found: $0.found, pruned: $0.pruned) }
            inbox.post { loop in
                guard loop.coreGeneration == generation else { return }
                switch found {
                case .success(let jobs):
                    loop.step(.jobsFound(lookup: lookup, found: jobs.found, pruned: jobs.pruned))
                case .failure(let error):
                    // The requests behind it are answered when the core is made anew.
                    loop.storeFailed("\(error)")
                }
            }
        }
    }

    // MARK: Replies

    private func answer(_ id: RequestID, _ reply: Reply) {
        guard let request = requests.removeValue(forKey: id) else { return }
        let outcomes = submitOutcomes.removeValue(forKey: id)
        do {
            switch reply {
            case .submitted(let answers): answerSubmit(outcomes ?? [], answers, request)
            case .jobs(let answers): try answerJobs(answers, request)
            case .retried(let job, let state, let tasks):
                replyNow(
                    request,
                    RetryReply(job: try job.wire(), state: try state.wire(), tasks: tasks))
            case .tagged(let record):
                replyNow(request, ArtifactReply(artifact: try record.wire()))
            case .removed(let names):
                replyNow(
                    request,
                    RemoveReply(
                        removed: try names.map { try Wire.ArtifactReference(checking: $0) }))
            case .draining(let instances):
                replyNow(request, DrainReply(draining: instances))
            case .failed(let error):
                send(request.message(error: error.wire), to: request.peer)
            }
        } catch {
            send(request.message(error: Self.errorObject(of: error)), to: request.peer)
        }
    }

    /// One wrong job among several spoils nothing: the others are listed; alone it is the answer.
    private func answerJobs(_ answers: [JobAnswer], _ request: PendingRequest) throws {
        var items: [JobStatesReply.Item] = []
        for answer in answers {
            guard let state = answer.state, answer.error == nil else { continue }
            items.append(.init(job: try answer.job.wire(), state: try state.wire()))
        }
        if items.isEmpty, let error = answers.lazy.compactMap(\.error).first {
            return send(request.message(error: error.wire), to: request.peer)
        }
        // About 80 bytes an entry: what does not fit the header is done all the same.
        replyNow(request, JobStatesReply(jobs: Array(items.prefix(600))))
    }

    /// Answers at once: after the commit, or from what is committed already.
    func replyNow(
        _ request: PendingRequest, _ header: some Encodable, bodies: [Message.Body] = []
    ) {
        do {
            var message = try Message(.ok, header, requestID: request.requestID, bodies: bodies)
            message.hasDelimiter = request.hasDelimiter
            send(message, to: request.peer)
        } catch {
            send(request.message(error: error.errorObject), to: request.peer)
        }
    }

    // MARK: Messages to workers

    private func tell(
        _ peer: PeerID, _ verb: Verb, requestID: String? = nil,
        _ header: () throws -> some Encodable
    ) {
        guard let address = peers.peer(peer) else { return }
        do {
            send(try Message(verb, header(), requestID: requestID), to: address)
        } catch {
            log.error("\(verb): \(error)")
        }
    }

    private static func name(_ key: AttemptKey) throws(WireError) -> AttemptName {
        AttemptName(task: try key.task.wire(), attempt: key.attempt)
    }

    private func welcome(_ peer: PeerID, _ welcome: Welcome) {
        sessions = sessions.filter { $0.value != welcome.instance }
        sessions[welcome.session.text] = welcome.instance
        sessionOf[welcome.instance] = welcome.session.text
        let requestID = helloRequests.removeValue(forKey: peer)
        for key in welcome.keep where core?.assignment(key)?.location == nil { jobLogs.began(key) }
        tell(peer, .welcome, requestID: requestID) {
            WorkerWelcome(
                epoch: Int(store.epoch), session: welcome.session.text,
                heartbeatMs: configuration.limits.heartbeatMilliseconds,
                leaseMs: configuration.limits.leaseMilliseconds,
                keep: try welcome.keep.map { try $0.wire() },
                drop: try welcome.drop.map { try $0.wire() })
        }
    }

    private func acknowledge(_ peer: PeerID, _ statuses: [ResultStatus]) {
        for part in statuses.chunks(of: WireLimits.results) {
            tell(peer, .resultAck) {
                ResultAckHeader(
                    results: try part.map {
                        .init(
                            task: try $0.task.wire(), attempt: $0.attempt,
                            status: $0.isAccepted ? .accepted : .stale)
                    })
            }
        }
    }

    // MARK: Tasks

    /// Sends tasks, as many in one message as fit.
    private func dispatch(_ peer: PeerID, _ instance: String, _ assignments: [Assignment]) {
        guard let address = peers.peer(peer) else { return }
        var envelopes: [TaskEnvelope] = []
        var bodies: [Message.Body] = []
        var headerRoom = Self.headerRoom
        var bodyRoom = 8 << 20
        func flush() {
            guard !envelopes.isEmpty else { return }
            do {
                let header = TaskHeader(session: sessionOf[instance], tasks: envelopes)
                send(try Message(.task, header, bodies: bodies), to: address)
                Failpoint.tasksSent.reach()
            } catch {
                log.error("TASK for \(instance): \(error)")
            }
            envelopes = []
            bodies = []
            headerRoom = Self.headerRoom
            bodyRoom = 8 << 20
        }
        for assignment in assignments {
            do {
                var envelope = try self.envelope(assignment)
                let line = try self.line(assignment)
                let size = try WireEncoder.encode(envelope).serialized().count + 64
                if size > headerRoom || (line?.count ?? 0) > bodyRoom
                    || bodies.count >= WireLimits.bodies
                {
                    flush()
                }
                if let line {
                    envelope.body = bodies.count
                    bodies.append(Message.Body("line", line))
                    bodyRoom -= line.count
                }
                envelopes.append(envelope)
                headerRoom -= size
                if assignment.location == nil { jobLogs.began(assignment.key) }
            } catch {
                // The worker never hears of it, so its lease runs out, with this in the log.
                log.error("task \(assignment.key.task) cannot be sent: \(error)")
            }
        }
        flush()
    }

    private func envelope(_ assignment: Assignment) throws -> TaskEnvelope {
        let submission = assignment.submission
        let isLine = assignment.location != nil
        var envelope = TaskEnvelope(
            task: try assignment.key.task.wire(), attempt: assignment.key.attempt,
            lease: LeaseToken(
                high: assignment.key.lease.high, low: assignment.key.lease.low),
            kind: try WireName(checking: assignment.kind),
            class: try WireName(checking: assignment.resourceClass),
            spec: jobCaches.spec(of: submission))
        for input in submission.inputs where !(isLine && input.name == BuiltInKind.linesInput) {
            guard let content = input.blob.content else { continue }
            envelope.inputs.append(
                .init(
                    name: try WireName(checking: input.name), path: blobs.path(of: content),
                    digest: try input.blob.wire(), bytes: Int(input.bytes)))
        }
        for binding in assignment.artifacts {
            envelope.artifacts.append(try Self.artifact(binding))
        }
        if !assignment.outcomes.isEmpty {
            envelope.outcomes = try assignment.outcomes.map {
                TaskEnvelope.Outcome(
                    job: try $0.job.wire(), state: try $0.outcome.state.wire(),
                    metrics: $0.outcome.metrics, error: $0.outcome.error?.wire)
            }
        }
        if let location = assignment.location {
            envelope.line = Int(location.number)
            envelope.customID = assignment.customID
        } else {
            let workdir = home.work(of: submission.id.text)
            mkdir(home.run(of: submission.id.text), 0o700)
            mkdir(workdir, 0o700)
            envelope.workdir = workdir
        }
        return envelope
    }

    private static func artifact(_ binding: ArtifactBinding) throws -> TaskEnvelope.Artifact {
        let record = binding.artifact
        guard let type = ArtifactType(rawValue: record.type) else {
            throw WireError(.internalError, "the artifact type \(record.type) has no wire form")
        }
        return TaskEnvelope.Artifact(
            ref: binding.reference, type: type,
            name: try Wire.ArtifactReference(checking: record.name), version: record.version,
            digest: try record.digest.wire(), path: record.path,
            meta: try? JSONValue.parse(record.meta))
    }

    private func line(_ assignment: Assignment) throws -> [UInt8]? {
        guard let location = assignment.location,
            case .lines(let blob) = assignment.submission.shape, let content = blob.content
        else { return nil }
        return try jobCaches.line(
            location, of: assignment.submission.id, blobPath: blobs.path(of: content))
    }
}

extension Array {
    /// The elements in runs of at most `size`.
    func chunks(of size: Int) -> [ArraySlice<Element>] {
        stride(from: 0, to: count, by: size).map { self[$0..<Swift.min($0 + size, count)] }
    }
}
