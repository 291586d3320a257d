import Foundation
import JSONModel
import WireProtocol

/// Tries a client program against the protocol: the kit is its broker.
///
/// The program is started with `LORAQ_HOME` and must submit a job, wait for its end, and print its answers.
public struct ClientConformance {
    let command: [String]
    let answer: JSONValue
    let deadlineS: Double

    /// - Parameter answer: What each answer of a plugin's own kind holds beside `custom_id`.
    public init(
        command: [String], answer: JSONValue = .object(JSONObject()), deadlineS: Double = 30
    ) {
        self.command = command
        self.answer = answer
        self.deadlineS = deadlineS
    }

    /// - Throws: What is wrong with the kit; what is wrong with the client is in the report.
    public func run() throws -> ConformanceReport {
        var report = ConformanceReport()
        try accepted(&report)
        if report.findings.contains(where: {
            $0.rule == ClientRules.submits.name && $0.verdict == .pass
        }) {
            try refused(&report)
            try silent(&report)
        }
        report.skip(ClientRules.all, "an earlier failure ended the conversation")
        return report
    }

    private func accepted(_ report: inout ConformanceReport) throws {
        let folder = try ProbeFolder()
        let probe = try ClientProbe(
            command, folder: folder, number: 1, refuses: false, answer: answer)
        defer { probe.process.kill() }
        try probe.serve(seconds: deadlineS)
        for fault in probe.faults { report.note(fault.rule, fault.why) }
        let hasEnded = !probe.process.isRunning
        guard probe.submits > 0 else {
            report.note(
                ClientRules.submits,
                "no SUBMIT: \(probe.process.present(after: deadlineS)); \(probe.process.lastWords)")
            return
        }
        report.note(ClientRules.message, nil)
        report.note(ClientRules.requestID, nil)
        report.note(ClientRules.submits, nil)
        if probe.withheld != nil {
            report.note(
                ClientRules.resends,
                probe.resent
                    ? nil
                    : "its SUBMIT got no answer and did not come again within \(Int(deadlineS)) s")
        }
        guard let id = probe.order.last, let job = probe.jobs[id] else {
            return report.skip(
                ClientRules.all.filter { $0.name != "refusal" && $0.name != "silence" },
                "no job was accepted")
        }
        report.note(ClientRules.jobID, nil)
        if probe.uploads > 0 { report.note(ClientRules.upload, nil) }
        let status = hasEnded ? probe.process.status : nil
        let ended = probe.process.present(after: deadlineS)
        report.note(ClientRules.success, status == 0 ? nil : "\(ended); \(probe.process.lastWords)")
        if status == 0 { report.note(ClientRules.unknownFields, nil) }
        if !job.answers.isEmpty {
            let isComplete = probe.fetched[id]?.complete ?? false
            report.note(
                ClientRules.pages,
                isComplete || probe.pushed
                    ? nil
                    : "it read \(probe.fetched[id]?.given.count ?? 0) pages of \(job.answers.count)"
            )
            let text = probe.process.text
            let missing = job.answers.compactMap { $0["custom_id"]?.string }.first {
                !text.contains($0)
            }
            report.note(ClientRules.output, missing.map { "`\($0)` is not in its output" })
        }
        report.skip(
            [ClientRules.unknownFields], "it did not end well, which may have another cause")
        report.skip([ClientRules.upload], "it uploaded nothing; inputs were sent along")
        report.skip([ClientRules.pages, ClientRules.output], "its job had no lines")
    }

    private func refused(_ report: inout ConformanceReport) throws {
        let folder = try ProbeFolder()
        let probe = try ClientProbe(
            command, folder: folder, number: 2, refuses: true, answer: answer)
        defer { probe.process.kill() }
        try probe.serve(seconds: deadlineS)
        report.note(ClientRules.refusal, fault(of: probe.process))
    }

    private func silent(_ report: inout ConformanceReport) throws {
        let folder = try ProbeFolder()
        let process = try ProbedProcess(
            command, environment: ["LORAQ_HOME": folder.url.path],
            output: folder.url.appendingPathComponent("client.log"))
        defer { process.kill() }
        let end = Date().addingTimeInterval(2 * deadlineS)
        while process.isRunning, Date() < end { Thread.sleep(forTimeInterval: 0.05) }
        report.note(ClientRules.silence, fault(of: process))
    }

    private func fault(of process: ProbedProcess) -> String? {
        if process.isRunning { return "it still runs" }
        return process.status == 0 ? "it ended with status 0" : nil
    }
}
