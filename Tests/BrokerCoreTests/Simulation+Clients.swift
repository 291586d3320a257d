import BrokerCore

extension Simulation {
    func scheduleClients() {
        for number in 0..<config.jobs {
            at(between(0, Double(config.seconds) * 0.7)) { [unowned self] in submitJob(number) }
        }
        for _ in 0..<(config.isQuiet ? 0 : 8) {
            at(between(5, Double(config.seconds))) { [unowned self] in meddle() }
        }
        // In the end everything is let go.
        at(Double(config.seconds) + 1) { [unowned self] in releaseAll() }
    }

    private func makeID() -> JobID {
        JobID(
            high: UInt64(1_700_000_000_000 + now / 1_000_000 - Int64(random.below(3_000))) << 16
                | 0x7000 | UInt64(random.below(4096)),
            low: 0x8000_0000_0000_0000 | random.next() >> 2)
    }

    private func submitJob(_ number: Int) {
        let isLines = random.chance(0.6)
        let id = makeID()
        var submission = Submission(
            id: id, kind: isLines ? "infer" : "finetune", spec: [], digest: Harness.digest(number),
            shape: isLines ? .lines(blob: Harness.digest(number)) : .single)
        submission.priority = random.below(3)
        submission.tenant = "t\(random.below(3))"
        if isLines, random.chance(0.15) { submission.label = "poison" }
        if random.chance(0.3), let other = submitted.keys.sorted().randomElement(using: &random) {
            let mode: DependencyMode = random.chance(0.5) ? .success : .finish
            submission.after = [Dependency(job: other, mode: mode)]
        }
        submitted[id] = submission
        send(submission, attempt: 1)
    }

    /// Sends until there is an answer: at most one job may come of it.
    private func send(_ submission: Submission, attempt: Int) {
        let request = newRequest()
        ask(.submit([submission], request: request), request) { [unowned self] reply in
            guard case .submitted(let answers) = reply, let answer = answers.first else { return }
            if answer.error == nil {
                acknowledged.insert(submission.id)
            } else if answer.error?.code == .unknownJob {
                // The job before was submitted and never acknowledged: it may come later.
                note("\(submission.id) waits for its dependency to be known")
            } else {
                note("refused: \(answer.error?.message ?? "")")
            }
        }
        at(3 + between(0, 2)) { [unowned self] in
            if !acknowledged.contains(submission.id) || (attempt < 3 && chance(0.3)) {
                send(submission, attempt: attempt + 1)
            }
        }
    }

    /// A person cancels, holds, releases, retries.
    private func meddle() {
        guard let id = acknowledged.sorted().randomElement(using: &random) else { return }
        switch random.below(6) {
        case 5:
            let worker = workers[random.below(workers.count)].instance
            note("drain \(worker)")
            let request = newRequest()
            ask(.drain(worker: worker, request: request), request)
        case 0:
            note("cancel \(id)")
            let request = newRequest()
            ask(.cancel([id], reason: "test", request: request), request)
        case 1:
            let request = newRequest()
            ask(.hold([id], request: request), request)
            at(between(1, 30)) { [unowned self] in
                let release = newRequest()
                ask(.release([id], request: release), release)
            }
        case 2, 3:
            note("retry \(id)")
            let scope: RetryScope = random.chance(0.3) ? .all : .failed
            if scope == .all { retriedWhole.insert(id) }
            let request = newRequest()
            ask(.retry(id, scope: scope, anyNumerics: false, request: request), request)
        default:
            let ended = store.jobs.values.filter { $0.status.state.isFinal }.map(\.id).sorted()
            if let old = ended.first, random.chance(0.3), !isNeeded(old) {
                note("prune \(old)")
                if let state = store.job(old)?.status.state {
                    step(.prune([EndedJob(id: old, state: state)], tombstonesBefore: 0))
                }
                submitted[old] = nil
                acknowledged.remove(old)
            }
        }
    }

    private func isNeeded(_ id: JobID) -> Bool {
        submitted.values.contains { submission in
            submission.after.contains { $0.job == id }
                && store.job(submission.id)?.status.state.isFinal != true
        }
    }

    private func releaseAll() {
        let held = store.jobs.values.filter { $0.status.isHeld }.map(\.id).sorted()
        if !held.isEmpty {
            let request = newRequest()
            ask(.release(held, request: request), request)
        }
        at(10) { [unowned self] in releaseAll() }
    }
}
