import BrokerCore
import JSONModel
import LinuxSystem
import WireProtocol
import ZeroMQ

extension EventLoop {
    /// Takes what came on the results socket. Nobody can be answered here; a result is acknowledged
    /// on the dispatch socket.
    func receiveResults() {
        for _ in 0..<configuration.messagesPerTurn {
            do {
                guard let frames = try results.receive(maximumFrames: 1_024) else { return }
                let message = try Message(frames: frames)
                // Without a store nothing is acknowledged, so it comes again.
                guard core != nil else { continue }
                try handleResult(message)
            } catch {
                noteMalformed("on the results socket: \(error)")
            }
        }
    }

    private func handleResult(_ message: Message) throws {
        switch message.verb {
        case .result: try takeResults(message)
        case .progress:
            let header = try message.decode(ProgressHeader.self)
            guard let session = Token(text: header.session) else { return }
            var report = ProgressReport(
                session: session, key: AttemptKey(header.reference), counter: Int64(header.counter))
            report.done = header.done
            report.total = header.total
            report.unit = header.unit
            report.metrics = header.metrics ?? [:]
            report.message = header.message
            step(.progress(report))
        case .log: takeLog(try message.decode(LogHeader.self))
        case .chunk: try takeChunk(message.decode(ChunkHeader.self))
        default:
            throw ErrorObject(
                .unknownVerb, .user, "\(message.verb) is no message of LQP/1 on this socket")
        }
    }

    private func takeChunk(_ header: ChunkHeader) throws {
        guard subscriptions > 0, let instance = sessions[header.session] else { return }
        publish(
            EventObject(
                event: Int(lastEvent), type: "chunk", atMs: Int(moment.wall), job: header.task.job,
                task: header.task, worker: instance,
                fields: .init([
                    ("attempt", .integer(Int64(header.attempt))),
                    ("token_index", .integer(Int64(header.tokenIndex))),
                    ("choice", .integer(Int64(header.choice ?? 0))),
                    ("text", .string(header.text)),
                ])))
    }

    // MARK: Results

    private func takeResults(_ message: Message) throws {
        let header = try message.decode(ResultHeader.self)
        guard let session = Token(text: header.session) else { return }
        Failpoint.resultsReceived.reach()
        var ready: [AttemptResult] = []
        for wire in header.results {
            let key = AttemptKey(wire.reference)
            let isPartial = wire.outcome == .cancelled && core?.acceptsPartial(key) == true
            guard isPartial || core?.accepts(key) == true else {
                // The core says stale to it.
                ready.append(AttemptResult(session: session, key: key, outcome: .cancelled))
                continue
            }
            var result = AttemptResult(
                session: session, key: key, outcome: Self.outcome(of: wire))
            result.usage = (wire.usage ?? [:]).filter(\.value.isFinite)
            result.metrics = (wire.metrics ?? [:]).filter(\.value.isFinite)
            let body = self.body(of: wire, message, &result, isPartial: isPartial)
            if case .ok = result.outcome, let artifacts = wire.artifacts, !artifacts.isEmpty {
                install(artifacts, result, body)
            } else {
                result.location = body.map { place($0, of: key) }
                ready.append(result)
            }
        }
        if !ready.isEmpty { step(.results(ready)) }
    }

    private static func outcome(of wire: TaskResult) -> AttemptOutcome {
        switch wire.outcome {
        case .ok: .ok
        case .error:
            .error(
                wire.error.map { BrokerError($0) }
                    ?? BrokerError(.internal, .internal, "the worker gave no reason"))
        case .preempted: .preempted
        case .cancelled: .cancelled
        }
    }

    /// The line to be kept; an unusable one turns the result into an error.
    private func body(
        of wire: TaskResult, _ message: Message, _ result: inout AttemptResult, isPartial: Bool
    ) -> [UInt8]? {
        switch result.outcome {
        case .cancelled where isPartial: break
        case .preempted, .cancelled: return nil
        // It will be tried again; what it says now is not its result.
        case .error(let error) where error.errorClass == .retryable: return nil
        case .ok, .error: break
        }
        guard let index = wire.body else {
            if case .ok = result.outcome { return Array("{}".utf8) }
            return nil
        }
        guard message.bodies.indices.contains(index) else {
            result.outcome = .error(Self.badBody("names body \(index), which the message lacks"))
            return nil
        }
        let bytes = message.bodies[index].bytes
        guard bytes.count < WireLimits.bodyBytes else {
            result.outcome = .error(
                Self.badBody(
                    "has \(bytes.count) bytes, over the limit of \(WireLimits.bodyBytes - 1)"))
            return nil
        }
        guard bytes.first == UInt8(ascii: "{"), bytes.last == UInt8(ascii: "}"),
            !bytes.contains(0x0A), !bytes.contains(0x0D)
        else {
            result.outcome = .error(Self.badBody("is not one JSON object without line break"))
            return nil
        }
        return bytes
    }

    private static func badBody(_ problem: String) -> BrokerError {
        BrokerError(.internal, .internal, "the result that the worker sent \(problem)")
    }

    /// Gives a line its place in the job's newest segment; it is written with the next commit.
    private func place(_ line: [UInt8], of key: AttemptKey) -> ResultLocation {
        let job = key.task.job.text
        let claim = segments.claim(job: job, length: line.count + 1)
        batch.append(SegmentAppend(job: job, claim: claim, bytes: line + [0x0A]))
        return claim.location
    }

    // MARK: Artifacts

    /// Moves the folders that an attempt made to their places, off the loop; then its result is
    /// taken like any other.
    private func install(
        _ artifacts: [TaskResult.Artifact], _ result: AttemptResult, _ body: [UInt8]?
    ) {
        // Sent again meanwhile: the first one is on its way.
        guard installingKeys.insert(result.key).inserted else { return }
        let workdir = home.work(of: result.key.task.job.text)
        let home = self.home
        let digests = artifacts.compactMap { Digest($0.digest) }
        for digest in digests { installing[digest, default: 0] += 1 }
        offload(disk) {
            Result { () throws(BrokerError) in
                try artifacts.map { artifact throws(BrokerError) in
                    try ArtifactInstaller(home: home, workdir: workdir).install(artifact)
                }
            }
        } then: { loop, outcome in
            for digest in digests {
                loop.installing[digest, default: 1] -= 1
                if loop.installing[digest] == 0 { loop.installing[digest] = nil }
            }
            // The core was made anew meanwhile: the worker sends the result again.
            guard loop.installingKeys.remove(result.key) != nil else { return }
            var result = result
            switch outcome {
            case .success(let reported): result.artifacts = reported
            case .failure(let error): result.outcome = .error(error)
            }
            if case .ok = result.outcome, loop.core?.accepts(result.key) == true {
                result.location = body.map { loop.place($0, of: result.key) }
            }
            loop.step(.results([result]))
        }
    }
}

/// Moves a folder that a worker made below its work folder to `models/<digest>` or
/// `adapters/<digest>`.
struct ArtifactInstaller {
    let home: BrokerHome
    let workdir: String

    func install(_ artifact: TaskResult.Artifact) throws(BrokerError) -> ReportedArtifact {
        let parent = artifact.type == .model ? home.models : home.adapters
        let target = "\(parent)/\(artifact.digest.hex)"
        let staged =
            artifact.path.hasPrefix("/")
            ? FilePath.absolute(artifact.path) : FilePath.absolute("\(workdir)/\(artifact.path)")
        guard staged.hasPrefix("\(workdir)/") else {
            throw BrokerError(
                .internal, .internal,
                "the worker's artifact \(artifact.name) lies at \(staged), outside its work folder")
        }
        do {
            if FilePath.isDirectory(target) {
                // The same content is there already; or this very folder was moved before a crash.
                try DurableFile.removeTree(staged)
            } else {
                guard FilePath.isDirectory(staged) else {
                    throw BrokerError(
                        .internal, .internal, "the worker's artifact \(staged) is not a folder")
                }
                try DurableFile.syncTree(staged)
                try DurableFile.rename(staged, to: target)
                Failpoint.artifactPlaced.reach()
            }
        } catch let error as BrokerError {
            throw error
        } catch let error as SystemError {
            throw BrokerError(
                .internal, error.isOutOfSpace ? .retryable : .internal, error.description)
        } catch {
            throw BrokerError(.internal, .internal, "\(error)")
        }
        guard let digest = Digest(artifact.digest) else {
            throw BrokerError(.internal, .internal, "\(artifact.digest) is no digest")
        }
        return ReportedArtifact(
            type: artifact.type.rawValue, name: artifact.name.name, digest: digest,
            bytes: Int64(artifact.bytes), path: target, meta: artifact.meta.serialized())
    }
}
