import ArgumentParser
import JSONModel
import LinuxSystem
import LoraqClient

/// Waits for jobs on behalf of a person: progress, the broker going and coming, Ctrl-C.
struct JobWaiter {
    let session: Session
    let options: WaitOptions
    /// Taken before the submit, so that no event is missed.
    var events: EventSubscription?
    var onEvent: (BrokerEvent) -> Void = { _ in }
    /// What the progress line calls the job; by default its kind and label or id.
    var title: String?
    /// What all the jobs can be called by, where they are too many to list their ids.
    var selectors: [String] = []

    init(session: Session, options: WaitOptions) {
        self.session = session
        self.options = options
    }

    /// Waits until all are final; throws what ends the wait early.
    func wait(for jobs: [String]) throws -> [JobSnapshot] {
        let display = ProgressDisplay.standard(
            quiet: options.quiet || session.json && !session.terminal.errorIsTerminal)
        let watch = Stopwatch()
        var trackers: [String: JobProgressTracker] = [:]
        let events = try self.events ?? session.client.subscribe(to: jobs.map { "job/\($0)" })
        var follower = JobFollower(client: session.client, events: events)
        follower.onEvent = onEvent
        follower.onStatus = { snapshots in
            let open = snapshots.filter { !$0.isFinal }
            guard let shown = open.first(where: { $0.state == "running" }) ?? open.first else {
                return
            }
            var tracker =
                trackers[shown.id] ?? JobProgressTracker(title: title ?? JobText.title(of: shown))
            var progress = tracker.update(shown, at: watch.elapsed)
            trackers[shown.id] = tracker
            if jobs.count > 1 {
                let ended = jobs.count - open.count
                progress.title = "\(ended)/\(jobs.count) jobs ended; \(progress.title)"
            }
            if let reason = shown.reason, shown.state != "running" {
                progress.figures.append(TextTable.oneLine(reason.message))
            }
            display.show(progress, at: watch.elapsed)
        }
        let presence = PresenceNotes(display: display)
        session.client.connection.onPresenceChange = presence.changed
        defer {
            session.client.connection.onPresenceChange = { _ in }
            display.erase()
        }
        do throws(ClientError) {
            return try follower.wait(for: jobs, atMost: options.limit)
        } catch {
            guard error.kind == .interrupted else { throw error }
            throw JobWaiter.interrupted(jobs, selectors)
        }
    }

    /// Never advises `cancel all`, which would end other people's jobs too.
    static func interrupted(_ jobs: [String], _ selectors: [String] = []) -> ToolError {
        let isFew = jobs.count <= 3
        let names = isFew ? jobs.joined(separator: " ") : "\(jobs.count) jobs"
        let called = isFew || selectors.contains("all") ? jobs : selectors
        let argument = called.prefix(3).joined(separator: " ")
        let isWhole = !called.isEmpty && called.count <= 3
        return ToolError(
            .interrupted, "interrupted; \(names) \(jobs.count == 1 ? "goes" : "go") on",
            hint: isWhole
                ? "come back with `loraq wait \(argument)`, or end \(jobs.count == 1 ? "it" : "them") with "
                    + "`loraq cancel \(argument)`"
                : "come back with `loraq wait`, or end them with `loraq cancel`, and their ids or label, which "
                    + "`loraq jobs` shows")
    }

    /// The status that all jobs together stand for.
    static func status(of jobs: [JobSnapshot]) -> ExitStatus {
        if jobs.contains(where: { $0.state != "succeeded" }) { return .failure }
        let partial = jobs.contains { $0.lost > 0 || $0.count("cancelled") > 0 }
        return partial ? .someLinesFailed : .success
    }

    /// Ends the command with the jobs' status, if it is not success.
    static func finish(_ jobs: [JobSnapshot]) throws {
        let status = status(of: jobs)
        if status != .success { throw ExitCode(status.rawValue) }
    }
}

/// Says that the broker went away, and that it is back: once each per absence.
private final class PresenceNotes {
    private let display: ProgressDisplay
    private var isAway = false

    init(display: ProgressDisplay) { self.display = display }

    func changed(_ isThere: Bool) {
        if !isThere, !isAway {
            display.note("the broker went away; waiting for it to come back (jobs are on disk)")
        } else if isThere, isAway {
            display.note("the broker is back")
        }
        isAway = !isThere
    }
}
