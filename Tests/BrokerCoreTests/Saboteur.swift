import Collections

@testable import BrokerCore

/// A way to be wrong: a core that is broken so must be found out by the checker of simulated histories.
enum PlantedFault: String, CaseIterable, Sendable {
    /// A result is taken whatever lease and attempt it quotes.
    case acceptsStaleToken
    /// Now and then an acknowledged job never reaches the store.
    case losesSubmit
    /// A result counts twice.
    case acceptsTwice
    /// A cancelled job goes on in its queue.
    case dispatchesCancelled
    /// A lease that no beat renews never ends.
    case neverEndsLease
    /// The end of a job is not told to those that come after it.
    case neverWakesDependents
    /// A wait before the next try never ends.
    case neverEndsBackoff
    /// A running job is set back to waiting.
    case illegalTransition
    /// A new try has the number of the one before.
    case reusesAttemptNumber
    /// The last line of a piece of a batch is forgotten.
    case forgetsLine
    /// Workers are sent more than they have room for.
    case ignoresCredit
    /// Held jobs are given out.
    case runsHeldJob
    /// Jobs run before those that they come after.
    case ignoresDependencies
    /// The end of a job is published to nobody.
    case forgetsEndEvent
    /// A task that kills its workers is never set aside.
    case neverSetsAside
    /// Who dies with others in hand pays as if it had been alone.
    case blamesCompanions
    /// A retry runs again what succeeded already.
    case retriesDone
}

/// Breaks a core from outside, so that nothing of it stands in the core itself: it changes what comes in, the state in the
/// middle of a step, or what goes out.
struct Saboteur {
    let fault: PlantedFault
    let core: Core

    func step(_ event: Event, at moment: Moment) -> Step {
        if fault == .neverEndsBackoff {
            core.timers = Heap(
                core.timers.unordered.filter {
                    if case .backoff = $0.purpose { false } else { true }
                })
        }
        core.begin(at: moment)
        let event = changed(event)
        let taken = fault == .acceptsTwice ? results(in: event) : []
        changeState(before: event)
        core.handle(event)
        for (task, location) in taken where task.state == .done {
            core.finishTask(task, .done, location: location)
        }
        changeState(after: event)
        return changed(core.finish())
    }

    // MARK: What comes in

    private func changed(_ event: Event) -> Event {
        switch (fault, event) {
        case (.acceptsStaleToken, .results(let results)):
            return .results(
                results.map { result in
                    var result = result
                    if let task = task(result.key.task), task.state == .leased,
                        let lease = task.lease
                    {
                        result.key = AttemptKey(
                            task: task.id, attempt: task.attempt, lease: lease)
                    }
                    return result
                })
        case (.forgetsLine, .linesLoaded(let request, let lines, let next)):
            return .linesLoaded(request, lines.filter { $0.index != next - 1 }, next: next)
        case (.ignoresCredit, .workerCredit(let peer, let session, let classes)):
            return .workerCredit(
                peer: peer, session: session, classes: classes.mapValues { $0 + 20 })
        default: return event
        }
    }

    private func task(_ id: TaskID) -> LiveTask? { core.jobs[id.job]?.tasks[id.index] }

    private func results(in event: Event) -> [(task: LiveTask, location: ResultLocation?)] {
        guard case .results(let results) = event else { return [] }
        return results.compactMap { result in
            core.leasedTask(result.key).map { ($0, result.location) }
        }
    }

    // MARK: The state

    private var openJobs: [LiveJob] {
        core.jobs.values.filter { !$0.status.state.isFinal }.sorted { $0.sequence < $1.sequence }
    }

    private func changeState(before event: Event) {
        switch fault {
        case .dispatchesCancelled:
            guard case .cancel(let ids, _, _) = event else { return }
            for job in openJobs where ids.contains(job.id) { core.changeState(job, .cancelled) }
        case .neverEndsLease:
            for worker in core.workerList {
                worker.lastHeard = core.time
                for task in worker.held.values { task.renewedAt = core.time }
            }
        case .neverWakesDependents: for job in core.jobs.values { job.dependents = [] }
        case .neverSetsAside:
            for job in core.jobs.values { for task in job.tasks.values { task.failures.crash = 0 } }
        case .blamesCompanions: if case .workerExited(let exit) = event { blame(exit) }
        default: break
        }
    }

    private func changeState(after event: Event) {
        switch fault {
        case .illegalTransition:
            for job in openJobs where job.status.state == .running && job.status.counts.done > 2 {
                core.changeState(job, .waiting)
                core.publishState(job)
            }
        case .reusesAttemptNumber:
            for task in core.jobs.values.flatMap(\.tasks.values) where task.state != .leased {
                task.attempt = max(0, task.attempt - 1)
            }
        case .runsHeldJob: for job in openJobs where job.status.isHeld { giveOut(job) }
        case .ignoresDependencies:
            for job in openJobs where job.openDependencies > 0 {
                if !job.isActivated { core.activate(job) }
                giveOut(job)
            }
        case .retriesDone:
            if case .retry(let id, _, _, _) = event { core.jobs[id]?.status.retryScope = .all }
        default: break
        }
    }

    /// Every task with others on a worker that died counts as one that died alone.
    private func blame(_ exit: ProcessExit) {
        guard let worker = core.workersByInstance[exit.instance], worker.hello.pid == exit.pid,
            !exit.isExpected, worker.killReason == nil, worker.held.count > 1
        else { return }
        for task in worker.heldInOrder where task.state == .leased && task.stopDeadline == nil {
            core.giveBack(
                task, .crash, isCounted: true,
                error: BrokerError(.workerDied, .retryable, "its worker died"), exit: exit)
        }
    }

    /// Gives one task of a job that must not run to a worker that has room.
    private func giveOut(_ job: LiveJob) {
        let kind = job.submission.kind
        for worker in core.workerList where worker.isOpen {
            guard let resourceClass = worker.classes[kind], worker.available(resourceClass) > 0,
                !job.fresh.isEmpty
            else { continue }
            return core.assign(job.fresh.removeFirst(), to: worker, resourceClass)
        }
    }

    // MARK: What goes out

    private func changed(_ step: Step) -> Step {
        var step = step
        switch fault {
        case .losesSubmit:
            step.mutations.removeAll {
                if case .insertJob(let record) = $0 { record.sequence % 4 == 3 } else { false }
            }
        case .forgetsEndEvent:
            step.mutations.removeAll {
                if case .appendEvent(let event) = $0 { tellsAnEnd(event) } else { false }
            }
            step.actions.removeAll {
                if case .publish(let event) = $0 { tellsAnEnd(event) } else { false }
            }
        default: break
        }
        return step
    }

    private func tellsAnEnd(_ event: BrokerEvent) -> Bool {
        event.type.hasPrefix("job.")
            && JobState(rawValue: String(event.type.dropFirst(4)))?.isFinal == true
    }
}
