import BrokerCore
import JSONModel
import LinuxSystem
import WireProtocol

extension EventLoop {
    func submit(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(SubmitRequest.self)
        submit([.success(header.job)], message.bodies, request)
    }

    func submitBatch(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(SubmitBatchRequest.self)
        guard header.jobs.count <= WireLimits.submissions else {
            throw ErrorObject(
                .tooLarge, .user,
                "\(header.jobs.count) submissions, at most \(WireLimits.submissions) fit one message"
            )
        }
        var items: [Result<Wire.Submission, SubmitFault>] = []
        for (index, value) in header.jobs.enumerated() {
            do {
                items.append(.success(try header.submission(at: index)))
            } catch {
                items.append(
                    .failure(SubmitFault(job: value["id"]?.string, error: error.errorObject)))
            }
        }
        submit(items, message.bodies, request)
    }

    /// Stores the bodies that are inputs, then checks and hands over.
    private func submit(
        _ items: [Result<Wire.Submission, SubmitFault>], _ bodies: [Message.Body],
        _ request: PendingRequest
    ) {
        let names = items.flatMap { item -> [String] in
            guard case .success(let submission) = item else { return [] }
            return submission.inputs.compactMap {
                if case .body(let name) = $0.source { name.text } else { nil }
            }
        }
        guard !names.isEmpty else { return accept(items, [:], request) }
        let wanted = bodies.filter { names.contains($0.name) }
        offload(disk) { [blobs] in
            var stored: [String: Result<StoredBody, ErrorObject>] = [:]
            for body in wanted {
                stored[body.name] = Result { () throws(ErrorObject) in
                    StoredBody(digest: try blobs.store(body.bytes), bytes: body.bytes.count)
                }
            }
            return stored
        } then: { loop, stored in
            guard loop.core != nil else { return loop.fail(request, EventLoop.storeUnavailable) }
            for case .success(let body) in stored.values {
                guard let digest = Digest(body.digest) else { continue }
                if loop.waits(for: digest, { $0.submit(items, bodies, request) }) { return }
            }
            for case .success(let body) in stored.values {
                loop.noteBlob(body.digest, bytes: body.bytes)
            }
            loop.accept(items, stored, request)
        }
    }

    private func accept(
        _ items: [Result<Wire.Submission, SubmitFault>],
        _ stored: [String: Result<StoredBody, ErrorObject>], _ request: PendingRequest
    ) {
        // A blob that is being removed may be named again when that is over.
        for case .success(let submission) in items {
            for case .blob(let named) in submission.inputs.map(\.source) {
                guard let digest = Digest(named) else { continue }
                if waits(for: digest, { $0.accept(items, stored, request) }) { return }
            }
        }
        var outcomes: [SubmitOutcome] = []
        var accepted: [Submission] = []
        for item in items {
            switch item {
            case .failure(let fault): outcomes.append(.refused(fault))
            case .success(let submission):
                do {
                    accepted.append(try prepare(submission, stored))
                    outcomes.append(.asked(submission.id))
                } catch {
                    outcomes.append(
                        .refused(
                            SubmitFault(
                                job: submission.id.text, error: Self.errorObject(of: error))))
                }
            }
        }
        guard !accepted.isEmpty else {
            return answerSubmit(outcomes, [], request)
        }
        let id = expectReply(request)
        submitOutcomes[id] = outcomes
        step(.submit(accepted, request: id))
    }

    /// Puts the core's answers between those that never reached it.
    func answerSubmit(
        _ outcomes: [SubmitOutcome], _ answers: [SubmitAnswer], _ request: PendingRequest
    ) {
        var answers = answers[...]
        var items: [SubmitBatchReply.Item] = []
        for outcome in outcomes {
            switch outcome {
            case .refused(let fault):
                items.append(.init(job: fault.job, error: fault.error))
            case .asked(let id):
                guard let answer = answers.popFirst() else { continue }
                if let error = answer.error {
                    items.append(.init(job: id.text, error: error.wire))
                } else {
                    items.append(
                        .init(
                            job: id.text, state: try? answer.state.wire(),
                            duplicate: answer.isDuplicate))
                }
            }
        }
        if request.verb == .submitBatch {
            return replyNow(request, SubmitBatchReply(results: items))
        }
        guard let item = items.first else { return }
        if let error = item.error {
            send(request.message(error: error), to: request.peer)
        } else if case .asked(let id)? = outcomes.first, let state = item.state {
            replyNow(
                request, SubmitReply(job: id, state: state, duplicate: item.duplicate ?? false))
        }
    }

    static func errorObject(of error: any Error) -> ErrorObject {
        switch error {
        case let error as ErrorObject: error
        case let error as WireError: error.errorObject
        case let error as BrokerError: error.wire
        case let error as SystemError: BlobStore.wireError(error)
        default: ErrorObject(.internalError, .internal, "\(error)")
        }
    }

    // MARK: One submission

    private func prepare(
        _ wire: Wire.Submission, _ stored: [String: Result<StoredBody, ErrorObject>]
    ) throws -> Submission {
        let inputs = try self.inputs(of: wire, stored)
        guard isKnownKind(wire.kind.text) else {
            throw ErrorObject(
                .unknownKind, .user, "no plugin knows the kind \(wire.kind)",
                hint: "there are: \(knownKinds.sorted().joined(separator: ", "))")
        }
        let facts = try SpecFacts(of: wire)
        let spec = wire.spec.serialized()
        guard spec.count <= WireLimits.specBytes else {
            throw ErrorObject(
                .tooLarge, .user,
                "the spec has \(spec.count) bytes, at most \(WireLimits.specBytes) are taken")
        }
        guard let digest = Self.digest(of: wire, inputs) else {
            throw ErrorObject(.internalError, .internal, "the submission has no digest")
        }
        var shape = JobShape.single
        if let lines = inputs.first(where: { $0.name == BuiltInKind.linesInput }) {
            shape = .lines(blob: lines.blob)
        }
        var submission = Submission(
            id: JobID(wire.id), kind: wire.kind.text, spec: spec, digest: digest, shape: shape)
        submission.inputs = inputs
        submission.after = wire.after.map(Dependency.init)
        submission.priority = wire.priority
        submission.tenant = wire.tenant.text
        submission.label = wire.label
        submission.maximumSeconds = wire.maxSeconds.map(Double.init)
        submission.memoryBytes = wire.memoryBytes ?? statedMemory(of: wire.kind)
        submission.allowsAnyNumerics = wire.numerics == .any
        submission.worker = wire.worker?.text
        submission.isStrict = facts.isStrict
        submission.references = facts.references
        submission.optionalReferences = facts.optionalReferences
        submission.produces = facts.produces
        return submission
    }

    private func inputs(
        of wire: Wire.Submission, _ stored: [String: Result<StoredBody, ErrorObject>]
    ) throws -> [JobInput] {
        var inputs: [JobInput] = []
        for (index, input) in wire.inputs.enumerated() {
            switch input.source {
            case .body(let name):
                guard let body = stored[name.text] else {
                    throw ErrorObject(
                        .invalidSpec, .user,
                        "`inputs[\(index)].body`: the message has no body \(name)")
                }
                let value = try body.get()
                guard let digest = Digest(value.digest) else { continue }
                inputs.append(
                    JobInput(name: input.name.text, blob: digest, bytes: Int64(value.bytes)))
            case .blob(let wireDigest):
                guard let content = ContentDigest(text: wireDigest.text),
                    let digest = Digest(wireDigest), let size = blobs.size(of: content)
                else {
                    throw ErrorObject(
                        .unknownBlob, .user,
                        "`inputs[\(index)].blob`: \(wireDigest) has not been uploaded",
                        hint: "send it with PUT first")
                }
                inputs.append(
                    JobInput(name: input.name.text, blob: digest, bytes: Int64(size)))
            }
        }
        return inputs
    }

    /// What makes two submissions of one id the same: kind, spec and inputs.
    private static func digest(of wire: Wire.Submission, _ inputs: [JobInput]) -> Digest? {
        var text = Array("\(wire.kind.text)\n".utf8)
        text.append(contentsOf: wire.spec.serialized(sortedKeys: true))
        for input in inputs.sorted(by: { $0.name < $1.name }) {
            text.append(contentsOf: Array("\n\(input.name)=\(input.blob.text)".utf8))
        }
        return Digest(ContentDigest(of: text))
    }

    /// What the plugins' manifests say that a task of this kind needs, the most of them.
    private func statedMemory(of kind: WireName) -> Int {
        supervisor.catalog.plugins.flatMap(\.manifest.kinds)
            .filter { $0.name == kind }.compactMap(\.memoryBytes).max() ?? 0
    }

    private var knownKinds: Set<String> {
        var kinds = Set(BuiltInKind.allCases.map(\.rawValue))
        for plugin in supervisor.catalog.plugins {
            kinds.formUnion(plugin.manifest.kinds.map(\.name.text))
        }
        for plugin in unlistedPlugins.values { kinds.formUnion(plugin.kinds.map(\.name)) }
        return kinds
    }

    private func isKnownKind(_ kind: String) -> Bool {
        if BuiltInKind(rawValue: kind) != nil || !supervisor.catalog.plugins(of: kind).isEmpty {
            return true
        }
        return knownKinds.contains(kind)
    }
}

/// A submission that was refused before the core saw it.
struct SubmitFault: Error, Sendable {
    var job: String?
    var error: ErrorObject
}

/// What became of an item of a `SUBMIT_BATCH`.
enum SubmitOutcome: Sendable {
    case refused(SubmitFault)
    /// The core answers, in the order of asking.
    case asked(Wire.JobID)
}

struct StoredBody: Sendable {
    var digest: ContentDigest
    var bytes: Int
}
