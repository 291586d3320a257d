import JSONModel
import LinuxSystem
import WireProtocol

/// Waits for jobs: events say when to look, `STATUS` says what is so.
///
/// Survives a restart of the broker in the middle: it goes on waiting, and the connection's
/// `onPresenceChange` tells of it. Events are hints only; without any, the look every second suffices.
public struct JobFollower {
    private let client: BrokerClient
    private let events: EventSubscription?
    /// Called with all jobs after each look.
    public var onStatus: ([JobSnapshot]) -> Void = { _ in }
    /// Called for each event of the jobs, as it comes.
    public var onEvent: (BrokerEvent) -> Void = { _ in }

    /// Between looks: soon at first, for short jobs, then less often.
    static let intervals: [Duration] = [.milliseconds(50), .milliseconds(100), .milliseconds(250)]
    static let longestInterval = Duration.milliseconds(500)

    public init(client: BrokerClient, events: EventSubscription?) {
        self.client = client
        self.events = events
    }

    /// Returns when all the jobs are in a final state.
    ///
    /// - Parameter limit: How long to wait at most; nil for as long as it takes.
    /// - Throws: `.timeout` when the limit runs out, `.interrupted`, or what `STATUS` was refused with.
    public func wait(
        for jobs: [String], atMost limit: Duration? = nil
    ) throws(ClientError) -> [JobSnapshot] {
        let deadline = limit.map { MonotonicTime.now() + $0 }
        var known: [String: JobSnapshot] = [:]
        var looks = 0
        while true {
            let open = jobs.filter { known[$0]?.isFinal != true }
            let answers = try look(at: open, deadline, jobs.count)
            for job in answers { known[job.id] = job }
            let answered = Set(answers.map(\.id))
            if let gone = open.first(where: { !answered.contains($0) }) {
                throw ClientError(
                    .refused(.unknownJob), "the broker does not know job \(gone)",
                    hint: "`loraq jobs` lists those it knows")
            }
            let snapshots = jobs.compactMap { known[$0] }
            onStatus(snapshots)
            if snapshots.count == jobs.count, snapshots.allSatisfy(\.isFinal) {
                try drainEvents(of: jobs)
                return snapshots
            }
            // Many jobs are looked at less often: a look asks about each that is open.
            let interval =
                looks < Self.intervals.count
                ? Self.intervals[looks] : Self.longestInterval * max(1, open.count / 64)
            looks += 1
            try pause(interval, deadline, jobs, snapshots)
        }
    }

    private func look(
        at jobs: [String], _ deadline: MonotonicTime?, _ all: Int
    ) throws(ClientError) -> [JobSnapshot] {
        // A year stands for "as long as it takes": the wait ends by an answer, an interrupt or a limit.
        let timeout = deadline.map { max(.milliseconds(1), $0 - MonotonicTime.now()) }
        do throws(ClientError) {
            return try client.status(
                jobs,
                policy: RequestPolicy(
                    timeout: timeout ?? .seconds(31_536_000), waitsForBroker: true))
        } catch {
            if let deadline, MonotonicTime.now() >= deadline { throw Self.expired(all, []) }
            throw error
        }
    }

    /// Passes events on until the interval is over or one of them says that a state changed.
    private func pause(
        _ interval: Duration, _ deadline: MonotonicTime?, _ jobs: [String],
        _ snapshots: [JobSnapshot]
    ) throws(ClientError) {
        let end = MonotonicTime.now() + interval
        while true {
            if client.connection.isInterrupted() { throw .interrupted }
            let now = MonotonicTime.now()
            if let deadline, now >= deadline { throw Self.expired(jobs.count, snapshots) }
            guard now < end else { return }
            let left = min(end - now, deadline.map { $0 - now } ?? .seconds(1))
            guard let events else {
                sleep(left)
                continue
            }
            guard let event = try events.next(within: min(left, BrokerConnection.slice)) else {
                continue
            }
            guard let job = event.job, jobs.contains(job) else { continue }
            onEvent(event)
            if event.type.hasPrefix("job.") { return }
        }
    }

    /// Events that were under way when the last job ended.
    private func drainEvents(of jobs: [String]) throws(ClientError) {
        guard let events else { return }
        for _ in 0..<10_000 {
            guard let event = try events.next(within: .zero) else { return }
            if let job = event.job, jobs.contains(job) { onEvent(event) }
        }
    }

    private func sleep(_ time: Duration) {
        MonotonicSleep.wait(min(time, BrokerConnection.slice))
    }

    private static func expired(_ jobs: Int, _ snapshots: [JobSnapshot]) -> ClientError {
        let open = snapshots.filter { !$0.isFinal }
        let state = open.first.map { " (it is \($0.state))" } ?? ""
        return ClientError(
            .timeout,
            jobs == 1
                ? "the job did not end in time\(state)"
                : "\(open.count) of \(jobs) jobs did not end in time",
            hint: "it goes on; `loraq wait` waits again, `loraq explain` says what it waits for")
    }
}
