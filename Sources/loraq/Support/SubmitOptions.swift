import ArgumentParser
import Foundation
import LoraqClient
import WireProtocol

/// What all three ways of submitting take.
struct SubmitOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Start only after this job has succeeded (repeatable; also JOB:finish, or a condition "
                + "on its result such as 'JOB:eval_loss<0.5').", valueName: "job"))
    var after: [String] = []

    @Option(
        parsing: .unconditional, help: "From -100 to 100; higher runs first.",
        transform: Quantity.whole(-100...100))
    var priority: Int?

    @Option(help: "Whose share of the machine this uses.")
    var tenant: String?

    @Option(help: "A UUIDv7 of your own, so that the command can be repeated without a second job.")
    var id: String?

    @Option(help: "A name for the job; commands take it in place of the id.")
    var label: String?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Stop the job if it runs longer than this.", valueName: "seconds"),
        transform: Quantity.whole(1...999_999_999))
    var maxSeconds: Int?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "What each task needs beside its worker's own memory; it waits until that is free.",
            valueName: "mebibytes"), transform: Quantity.whole(1...1 << 30))
    var memory: Int?

    @Option(
        help: ArgumentHelp(
            "Run it on the workers of this plugin, such as `peft`.", valueName: "plugin"))
    var worker: String?

    mutating func validate() throws {
        if let tenant, WireName(text: tenant) == nil {
            throw ValidationError("--tenant must be \(WireName.form), not `\(tenant)`")
        }
        if let worker, WireName(text: worker) == nil {
            throw ValidationError("--worker must be \(WireName.form), not `\(worker)`")
        }
        if let label, label.isEmpty || label.utf8.count > 200 || label == "last" || label == "all" {
            throw ValidationError(
                "--label must have 1 to 200 bytes and not be `last` or `all`, which are selectors")
        }
        if let id {
            guard JobID(text: id.lowercased()) != nil else {
                throw ValidationError("--id must be a UUIDv7, not `\(id)`")
            }
        }
    }

    /// Puts the options into the request; dependencies are looked up, since they may be selectors.
    func apply(to request: inout JobRequest, _ session: Session) throws {
        if let id { request.id = id.lowercased() }
        request.priority = priority
        request.tenant = tenant
        request.label = label
        request.maximumSeconds = maxSeconds
        request.memoryBytes = memory.map { $0 << 20 }
        request.worker = worker
        for text in after {
            let dependency = try DependencyText(text)
            for job in try Self.jobs(dependency.selector, session) {
                request.after.append(
                    JobRequest.Dependency(
                        job: job.id, on: dependency.on, condition: dependency.condition))
            }
        }
    }

    /// One job; all jobs of a label, so that something can come after a whole array.
    private static func jobs(_ selector: String, _ session: Session) throws -> [JobSnapshot] {
        if selector != "all" {
            let labelled = try session.client.list(
                filter: ["label": .string(selector)], limit: 257)
            if !labelled.isEmpty { return labelled }
        }
        return [try session.client.job(selector)]
    }
}
