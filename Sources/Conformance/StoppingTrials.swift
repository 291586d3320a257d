import Foundation
import WireProtocol

/// Short conversations about a worker's end and that of its tasks, each with a process of its own.
extension WorkerConformance {
    static func stopRunning(_ kit: inout WorkerConformance, _ probe: WorkerProbe) throws {
        try kit.opened(probe, session: "s-1")
        var work = kit.work
        work.kind = kit.work.longKind
        work.resourceClass =
            kit.work.longClass ?? kit.work.resourceClass
            ?? WireName(text: probe.credit.keys.sorted()[0])
        work.spec = kit.work.longSpec
        let stops: [(Rule, Verb, TaskOutcome)] = [
            (WorkerRules.cancel, .cancel, .cancelled), (WorkerRules.preempt, .preempt, .preempted),
        ]
        for (number, (rule, verb, wanted)) in stops.enumerated() {
            let reference = kit.task(number, work, hasLine: false)
            var envelope = kit.envelope(reference, work)
            envelope.body = nil
            envelope.line = nil
            envelope.customID = nil
            let workdir = kit.folder.url.appendingPathComponent("work-\(number)")
            try FileManager.default.createDirectory(at: workdir, withIntermediateDirectories: true)
            envelope.workdir = workdir.path
            let seen = probe.resultMessages.count
            try probe.send(tasks: [envelope], lines: [])
            _ = try kit.expect(
                probe.until {
                    probe.lastBeat?.held.contains { $0.reference == reference } == true ? true : nil
                },
                rule, "a running task is not in its BEATs")
            for _ in 1...2 {
                try probe.send(
                    verb,
                    StopHeader(
                        tasks: [AttemptName(task: reference.task, attempt: 1)],
                        reason: "conformance"))
            }
            let answer = try probe.until { () -> Answer? in
                ((try? read(Array(probe.resultMessages.dropFirst(seen)))) ?? []).first {
                    $0.result.reference == reference
                }
            }
            let outcome = answer?.result.outcome
            kit.report.note(
                rule,
                outcome == wanted
                    ? nil
                    : outcome.map { "its outcome is \($0.rawValue)" }
                        ?? "it goes on after \(Int(probe.deadlineS)) s")
            try probe.acknowledge([reference])
        }
    }

    static func terminated(_ kit: inout WorkerConformance, _ probe: WorkerProbe) throws {
        try kit.opened(probe, session: "s-1")
        probe.process.terminate()
        kit.report.note(WorkerRules.terminate, try kit.farewell(probe))
    }

    static func refused(_ kit: inout WorkerConformance, _ probe: WorkerProbe) throws {
        func refuse(_ hello: Message) throws {
            try probe.send(
                .error(
                    ErrorObject(.badHeader, .user, "this worker is not wanted"),
                    requestID: hello.requestID))
        }
        try refuse(kit.greeted(probe))
        probe.onHello = refuse
        let status = try probe.exitStatus(within: kit.work.deadlineS)
        kit.report.note(
            WorkerRules.finalError,
            status == nil ? "it still runs after \(Int(kit.work.deadlineS)) s" : nil)
    }
}
