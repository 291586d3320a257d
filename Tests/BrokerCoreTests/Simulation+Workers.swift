import BrokerCore

extension Simulation {
    func startWorker(_ place: Int) {
        guard !workers[place].isAlive else { return }
        workers[place].start(peer: newPeer())
        note("\(workers[place].instance) starts, pid \(workers[place].pid)")
        sayHello(place)
        let pid = workers[place].pid
        run(place, pid: pid)
    }

    private func isRunning(_ place: Int, _ pid: Int32) -> Bool {
        workers[place].isAlive && workers[place].pid == pid
    }

    /// The worker's own clock: each half second it computes, and beats.
    private func run(_ place: Int, pid: Int32) {
        at(0.5) { [unowned self] in
            guard isRunning(place, pid) else { return }
            defer { run(place, pid: pid) }
            guard workers[place].stoppedUntil <= now else { return }
            if chance(0.004) {
                note("\(workers[place].instance) is stopped")
                workers[place].stoppedUntil = now + Int64(between(1, 80) * 1e9)
                return
            }
            if chance(0.01) { return crash(place, signal: 9) }
            if chance(0.01) { workers[place].isDeaf.toggle() }
            compute(place)
            guard isRunning(place, pid) else { return }
            if workers[place].isDraining, workers[place].holding.isEmpty { return leave(place) }
            if chance(0.01) { putBack(place) }
            // A HELLO may have been lost with a broker: say it again until there is an answer.
            guard let session = workers[place].session else { return sayHello(place) }
            if !chance(0.02) { sendBeat(place, session) }
            // Said again, since a message may have been lost.
            if random.chance(0.2) { sendCredit(place) }
            if random.chance(0.3) {
                for result in workers[place].spool { sendResult(place, result) }
            }
        }
    }

    func sayHello(_ place: Int) {
        let worker = workers[place]
        workers[place].session = nil
        var hello = WorkerHello(
            peer: worker.peer, instance: worker.instance, plugin: "lora", pluginVersion: "1",
            pid: worker.pid, kinds: ["infer", "finetune"], numerics: "n1", holding: worker.holding)
        hello.holdingClasses = worker.classes.filter { worker.holding.contains($0.key) }
        workers[place].helloNumber += 1
        let number = workers[place].helloNumber
        at(between(0.0001, 0.05)) { [unowned self] in say(hello, number: number) }
    }

    func sendCredit(_ place: Int) {
        let worker = workers[place]
        guard let session = worker.session else { return }
        if chance(0.02) { return }
        at(between(0.0001, 0.05)) { [unowned self] in
            step(.workerCredit(peer: worker.peer, session: session, classes: worker.credit))
        }
    }

    private func sendBeat(_ place: Int, _ session: Token) {
        let worker = workers[place]
        let held =
            worker.held.map { HeldAttempt(key: $0.assignment.key, progress: $0.progress) }
            + worker.spool.map { HeldAttempt(key: $0.key, progress: 1_000_000 + now) }
        let beat = WorkerBeat(peer: worker.peer, session: session, held: held)
        // Late, and now and then twice.
        let delay = between(0.0001, areFaultsOn ? 0.8 : 0.01)
        at(delay) { [unowned self] in step(.workerBeat(beat)) }
        if chance(0.02) { at(delay + between(0, 3)) { [unowned self] in step(.workerBeat(beat)) } }
    }

    func sendResult(_ place: Int, _ result: AttemptResult) {
        var result = result
        result = AttemptResult(
            session: workers[place].session ?? result.session, key: result.key,
            outcome: result.outcome, location: result.location)
        let copies = chance(0.1) ? 2 : 1
        if chance(0.02) { return note("a result is lost") }
        for _ in 0..<copies {
            at(between(0.0001, areFaultsOn ? 1 : 0.01)) { [unowned self] in
                step(.results([result]))
            }
        }
    }

    func receive(_ place: Int, _ assignments: [Assignment]) {
        for assignment in assignments {
            if let problem = workers[place].overload(by: assignment) { violation = problem }
            let work = Int64(
                assignment.kind == "infer" ? 1 + random.below(4) : 5 + random.below(40))
            workers[place].held.append(SimulatedWorker.Held(assignment: assignment, work: work))
        }
    }

    private func compute(_ place: Int) {
        for slot in workers[place].held.indices.reversed() {
            let held = workers[place].held[slot]
            if held.assignment.customID == "poison" {
                note("\(workers[place].instance) dies of \(held.assignment.key.task.index)")
                return crash(place, signal: 11)
            }
            // Hangs until someone acts.
            if held.progress > 0, chance(0.003) {
                workers[place].held[slot].progress = -1
                continue
            }
            guard held.progress >= 0 else { continue }
            workers[place].held[slot].progress += 1
            if held.progress + 1 >= held.work {
                let error = BrokerError(ErrorCode(rawValue: "BUSY"), .retryable, "busy")
                finish(place, slot, chance(0.03) ? .error(error) : .ok)
            }
        }
    }

    private func finish(_ place: Int, _ slot: Int, _ outcome: AttemptOutcome) {
        let held = workers[place].held.remove(at: slot)
        let result = AttemptResult(
            session: workers[place].session ?? Token(high: 0, low: 0), key: held.assignment.key,
            outcome: outcome, location: ResultLocation(segment: 0, offset: 0, length: 1))
        workers[place].spool.append(result)
        workers[place].release(held.assignment.key, kind: held.assignment.kind)
        sendResult(place, result)
        sendCredit(place)
    }

    /// It has no room for a task after all.
    private func putBack(_ place: Int) {
        guard let session = workers[place].session, let held = workers[place].held.popLast() else {
            return
        }
        let key = held.assignment.key
        note("\(workers[place].instance) puts \(key.task.index) back")
        workers[place].release(key, kind: held.assignment.kind)
        let peer = workers[place].peer
        at(between(0.0001, 0.05)) { [unowned self] in
            step(
                .workerDefer(
                    peer: peer, session: session, tasks: [key], reason: "busy",
                    retryAfterMilliseconds: 700))
        }
        sendCredit(place)
    }

    /// The orderly end of a drained worker; another one is started after it.
    private func leave(_ place: Int) {
        let worker = workers[place]
        note("\(worker.instance) has drained and leaves")
        if let session = worker.session { step(.workerBye(peer: worker.peer, session: session)) }
        workers[place].isAlive = false
        report(
            ProcessExit(
                instance: worker.instance, pid: worker.pid, status: .exited(0), isExpected: true))
        at(between(0.2, 4)) { [unowned self] in startWorker(place) }
    }

    /// Stops at a task; with an outcome it reports it, else it only forgets.
    func giveUp(_ place: Int, _ key: AttemptKey, _ outcome: AttemptOutcome?) {
        guard let slot = workers[place].held.firstIndex(where: { $0.assignment.key == key }) else {
            return
        }
        if let outcome { return finish(place, slot, outcome) }
        drop(place, [key])
    }

    func drop(_ place: Int, _ keys: [AttemptKey]) {
        for key in keys {
            workers[place].spool.removeAll { $0.key == key }
            guard let slot = workers[place].held.firstIndex(where: { $0.assignment.key == key })
            else { continue }
            let held = workers[place].held.remove(at: slot)
            workers[place].release(key, kind: held.assignment.kind)
        }
        sendCredit(place)
    }

    func crash(_ place: Int, signal: Int32) {
        guard workers[place].isAlive else { return }
        let worker = workers[place]
        note(
            "\(worker.instance) pid \(worker.pid) dies of signal \(signal) with \(worker.held.count) in hand"
        )
        workers[place].isAlive = false
        workers[place].held = []
        workers[place].spool = []
        report(
            ProcessExit(
                instance: worker.instance, pid: worker.pid, status: .signaled(signal),
                lastLog: "log of \(worker.pid)"))
        at(between(0.2, 4)) { [unowned self] in startWorker(place) }
    }
}
