import LinuxSystem
import WireProtocol

/// Results that the broker has not acknowledged. Each stays until its `RESULT_ACK`, and is sent again
/// in a new session, or when no acknowledgment came in good time.
struct ResultSpool {
    struct Entry {
        var result: TaskResult
        var body: [UInt8]?
        let resourceClass: WireName
        /// The attempt's counter at its end, for the beats until the acknowledgment.
        let progress: Int
        /// Nil: to be sent.
        var sentAt: MonotonicTime?
    }

    private(set) var entries: [AttemptName: Entry] = [:]
    /// Oldest first.
    private var unsent: [AttemptName] = []
    private(set) var bytes = 0

    var count: Int { entries.count }
    var isEmpty: Bool { entries.isEmpty }
    var hasUnsent: Bool { !unsent.isEmpty }

    mutating func add(
        _ result: TaskResult, body: [UInt8]?, resourceClass: WireName, progress: Int
    ) {
        let reference = result.name
        remove(reference)
        entries[reference] = Entry(
            result: result, body: body, resourceClass: resourceClass, progress: progress)
        unsent.append(reference)
        bytes += body?.count ?? 0
    }

    mutating func remove(_ reference: AttemptName) {
        guard let entry = entries.removeValue(forKey: reference) else { return }
        bytes -= entry.body?.count ?? 0
        if entry.sentAt == nil { unsent.removeAll { $0 == reference } }
    }

    /// Everything is to be sent again.
    mutating func rewind() {
        unsent = entries.keys.sorted { $0.task < $1.task }
        for reference in unsent { entries[reference]?.sentAt = nil }
    }

    /// What was sent before `limit` and not acknowledged is to be sent again.
    mutating func rewind(sentBefore limit: MonotonicTime) {
        for (reference, entry) in entries {
            guard let sentAt = entry.sentAt, sentAt < limit else { continue }
            entries[reference]?.sentAt = nil
            unsent.append(reference)
        }
    }

    /// The next results for one message, at most `count` and `bytes` of bodies (but at least one).
    func next(count: Int, bytes: Int) -> [Entry] {
        var chosen: [Entry] = []
        var total = 0
        for reference in unsent.prefix(count) {
            guard let entry = entries[reference] else { continue }
            total += entry.body?.count ?? 0
            if !chosen.isEmpty && total > bytes { break }
            chosen.append(entry)
        }
        return chosen
    }

    mutating func markSent(_ sent: [Entry], at time: MonotonicTime) {
        for entry in sent { entries[entry.result.name]?.sentAt = time }
        let gone = Set(sent.map(\.result.name))
        // They stand at the front, so this looks at no more than was sent.
        var keep = 0
        while keep < unsent.count, gone.contains(unsent[keep]) { keep += 1 }
        unsent.removeFirst(keep)
        if keep < sent.count { unsent.removeAll { gone.contains($0) } }
    }

    mutating func replace(_ reference: AttemptName, with result: TaskResult, body: [UInt8]?) {
        guard let old = entries[reference] else { return }
        bytes += (body?.count ?? 0) - (old.body?.count ?? 0)
        entries[reference]?.result = result
        entries[reference]?.body = body
    }
}

extension TaskResult {
    var name: AttemptName { AttemptName(task: task, attempt: attempt) }
}

extension AttemptReference {
    var name: AttemptName { AttemptName(task: task, attempt: attempt) }
}
