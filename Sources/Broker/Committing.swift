import BrokerCore
import LinuxSystem
import WireProtocol

/// Changes that belong into one commit, and what is done once they are durable.
struct PendingBatch {
    /// Something that waits for the commit.
    enum Deferred {
        case action(Action)
        case reply(PendingRequest, Message)
        /// Told whether the commit succeeded.
        case run((EventLoop, Bool) -> Void)
    }

    var number: UInt64 = 0
    var mutations: [Mutation] = []
    var appends: [SegmentAppend] = []
    var deferred: [Deferred] = []
    /// Of a batch that was handed over: what its changes weighed.
    var handedOver = 0
    private(set) var appendedBytes = 0

    /// A measure of the memory it takes, in changes; a change takes some hundred bytes.
    var weight: Int {
        mutations.count + deferred.count + appends.count + appendedBytes / 512 + handedOver
    }

    mutating func append(_ line: SegmentAppend) {
        appends.append(line)
        appendedBytes += line.bytes.count
    }

    var changesNothing: Bool { mutations.isEmpty && appends.isEmpty }
}

extension EventLoop {
    /// Hands the gathered batch over. Without changes it needs no commit, but what it sends must not
    /// overtake batches that are on their way.
    ///
    /// While two commits are under way the changes gather: that is the group commit, one sync of the
    /// disk for all that came in meanwhile.
    func flush(evenIfBusy isForced: Bool = false) {
        guard !batch.deferred.isEmpty || !batch.changesNothing else { return }
        if batch.changesNothing {
            let deferred = batch.deferred
            batch = PendingBatch()
            if inFlight.isEmpty {
                for item in deferred { perform(item) }
            } else {
                inFlight[inFlight.count - 1].deferred.append(contentsOf: deferred)
            }
            return
        }
        guard isForced || inFlight.count < 2 else { return }
        lastBatchNumber += 1
        pipeline.submit(
            CommitBatch(
                number: lastBatchNumber, mutations: batch.mutations, appends: batch.appends))
        batch.number = lastBatchNumber
        batch.handedOver = batch.mutations.count
        batch.mutations = []
        batch.appends = []
        inFlight.append(batch)
        batch = PendingBatch()
    }

    /// The pipeline's word on a batch.
    func committed(_ number: UInt64, failure: String?) {
        guard let first = inFlight.first, first.number == number else { return }
        if let failure {
            commitFailed(failure)
            return
        }
        inFlight.removeFirst()
        for (index, item) in first.deferred.enumerated() {
            perform(item)
            if index == 0 { Failpoint.firstOfCommitSent.reach() }
        }
    }

    private func perform(_ item: PendingBatch.Deferred) {
        switch item {
        case .action(let action): perform(action)
        case .reply(let request, let message): send(message, to: request.peer)
        case .run(let body): body(self, true)
        }
    }

    // MARK: Failure

    /// Nothing of what waited is sent: the core holds what is not on disk, so it is given up, and a
    /// new one is made from the store.
    private func commitFailed(_ reason: String) {
        log.error("a commit failed; the queue is read again from the store: \(reason)")
        let dropped = inFlight + [batch]
        inFlight = []
        batch = PendingBatch()
        core = nil
        segments.forgetAll()
        for split in splits.values { split.cancel() }
        splits = [:]
        sessions = [:]
        sessionOf = [:]
        helloRequests = [:]
        installingKeys = []
        retryStoreAt = now + .seconds(1)
        for item in dropped.flatMap(\.deferred) {
            switch item {
            case .action(.reply(let request, _)):
                guard let request = requests.removeValue(forKey: request) else { continue }
                send(unavailable(request), to: request.peer)
            case .reply(let request, _): send(unavailable(request), to: request.peer)
            case .run(let body): body(self, false)
            case .action: break
            }
        }
        for request in requests.values { send(unavailable(request), to: request.peer) }
        requests = [:]
        submitOutcomes = [:]
    }

    /// The store could not be read where the core needs an answer.
    func storeFailed(_ reason: String) {
        guard core != nil else { return }
        commitFailed(reason)
    }

    func unavailable(_ request: PendingRequest) -> Message {
        request.message(error: Self.storeUnavailable)
    }

    static let storeUnavailable = ErrorObject(
        .storeUnavailable, .retryable, "the store did not take the change; nothing was changed",
        hint: "look into the broker's log; is the disk full?", retryAfterMs: 1_000)

    /// Makes the core from what is stored; at the start and after a failed commit.
    func reloadCore() {
        do {
            pipeline.reset(home: home)
            var snapshot = try store.reload()
            for index in snapshot.artifacts.indices {
                let path = snapshot.artifacts[index].path
                snapshot.artifacts[index].path = home.current(artifact: path)
            }
            let core = Core(
                restoring: snapshot, limits: configuration.limits,
                random: SystemRandomNumberGenerator(), at: moment)
            self.core = core
            coreGeneration += 1
            retryStoreAt = nil
            lastEvent = max(lastEvent, snapshot.nextEventNumber - 1)
            absorb(core.resume(at: moment))
            step(.plugins(pluginDescriptions))
        } catch {
            log.error("the store cannot be read: \(error)")
            retryStoreAt = now + .seconds(1)
        }
    }
}

extension PendingRequest {
    func message(error: ErrorObject) -> Message {
        var message = Message.error(error, requestID: requestID)
        message.hasDelimiter = hasDelimiter
        return message
    }
}
