import ArgumentParser
import JSONModel
import LinuxSystem
import LoraqClient
import WireProtocol

struct Rebase: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Move the adapters of a base model to a changed one.",
        discussion: """
            For example: loraq models add tiny2 FOLDER; loraq rebase tiny tiny2

            Each adapter of OLD becomes a durable job. It scores the adapter on the rows that it was made with, on OLD and \
            unchanged on NEW. Where that is worse it trains the adapter anew for NEW, from the kept data by the kept \
            recipe, and scores that. NEW:A is registered where one of the two is no worse than OLD:A was; OLD:A stays as \
            it is. OLD and NEW may be versions of one model (tiny@1 tiny@2): then A names the new one from then on. \
            Adapters that NEW has already from an earlier rebase are left out, so that the command can be repeated.
            """)

    @Argument(help: "The base that the adapters belong to: M or M@2.") var old: String
    @Argument(help: "The base that they move to: M or M@2.") var new: String
    @Option(help: ArgumentHelp("Only these adapters, by commas.", valueName: "names"))
    var only: String?
    @Option(
        parsing: .unconditional,
        help: "By how much of the old loss the new one may be higher and still be no worse.")
    var tolerance = AdapterRebase.standardTolerance
    @Flag(help: "Do not wait for the jobs.") var noWait = false
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Give up waiting after this long (the jobs go on; exit code 4).", valueName: "seconds"),
        transform: Quantity.seconds)
    var timeout: Double?
    @Flag(name: .shortAndLong, help: "No progress.") var quiet = false
    @OptionGroup var submit: SubmitOptions
    @OptionGroup var common: CommonOptions

    mutating func validate() throws {
        guard (0...1).contains(tolerance) else {
            throw ValidationError("--tolerance must be from 0 to 1, not \(tolerance)")
        }
    }

    func run(_ session: Session) throws {
        let plan = try RebaseList(old: old, new: new, only: only, session)
        var first = JobRequest(kind: "adapter", spec: .object(JSONObject()))
        try submit.apply(to: &first, session)
        first.label = submit.label ?? "rebase-" + String(first.id.suffix(12))
        var requests: [JobRequest] = []
        for candidate in plan.candidates {
            var request = first
            request.id = try JobRequest.id(first.id, place: candidate.place)
            request.spec = try WireEncoder.encode(
                AdapterRebase(
                    adapter: candidate.reference, model: plan.new, name: candidate.name,
                    tolerance: tolerance))
            request.inputs = candidate.inputs
            requests.append(request)
        }
        let ids = try session.client.submit(requests).map(\.job)
        for left in plan.left { session.note("\(left.name) is left out: \(left.reason)") }
        if !noWait, !session.json { session.note("label \(first.label ?? "")") }
        var jobs: [JobSnapshot] = []
        if !noWait, !ids.isEmpty {
            var options = WaitOptions()
            options.wait = true
            options.timeout = timeout
            options.quiet = quiet
            var waiter = JobWaiter(session: session, options: options)
            waiter.title = "rebase \(old) \(new)"
            waiter.selectors = first.label.map { [$0] } ?? []
            jobs = try waiter.wait(for: ids)
        }
        try report(plan, ids, jobs, label: first.label ?? "", session)
        try JobWaiter.finish(jobs)
    }

    private func report(
        _ plan: RebaseList, _ ids: [String], _ jobs: [JobSnapshot], label: String,
        _ session: Session
    ) throws {
        let left: [JSONValue] = plan.left.map {
            ["adapter": .string($0.name), "reason": .string($0.reason)]
        }
        if session.json {
            return try session.print(
                json: .object([
                    "label": .string(label),
                    "jobs": .array(noWait ? ids.map { .string($0) } : jobs.map(\.json)),
                    "left": .array(left),
                ]))
        }
        if noWait {
            for id in ids { try session.print(id) }
            return
        }
        try session.print(
            RebaseText.table(
                zip(plan.candidates, jobs).map { ($0.reference.text, $1) }, style: session.style,
                width: session.terminal.outputWidth), terminator: "")
    }
}

/// Which adapters move, with the data that the broker kept for them, and which do not.
struct RebaseList {
    struct Candidate {
        /// With its version.
        let reference: ArtifactReference
        let name: WireName
        /// Among all adapters of the old base, so that the same command with the same `--id` is the same jobs.
        let place: Int
        let inputs: [JobRequest.Input]
    }

    var candidates: [Candidate] = []
    var left: [(name: String, reason: String)] = []
    /// With its version.
    let new: ArtifactReference

    /// - Throws: `ToolError` for names that there are not, and for two names of the same matrices.
    init(old: String, new: String, only: String?, _ session: Session) throws {
        let from = try Self.model(old, what: "OLD", session)
        let to = try Self.model(new, what: "NEW", session)
        self.new = to.reference
        guard from.base != to.base else {
            throw ToolError.usage(
                "\(from.reference) and \(to.reference) have the very same matrices: every adapter of one fits the other"
            )
        }
        let all = try session.client.artifacts(
            type: "adapter", name: from.reference.model.text + ":")
        let moved = try session.client.artifacts(
            type: "adapter", name: to.reference.model.text + ":")
        let wanted = try only.map { try Self.names($0, of: from.reference.model) }
        // Of each name the newest version that belongs to this base.
        var newest: [String: JSONValue] = [:]
        for artifact in all where artifact["meta"]?["base"]?.string == from.base {
            guard let name = artifact["name"]?.string else { continue }
            let version = artifact["version"]?.integer ?? 0
            if version >= newest[name]?["version"]?.integer ?? 0 { newest[name] = artifact }
        }
        for name in wanted ?? []
        where newest["\(from.reference.model.text):\(name)"] == nil {
            throw ArtifactText.missing(
                "\(from.reference.model.text):\(name)", "adapter", " on \(from.reference)")
        }
        for (place, entry) in newest.sorted(by: { $0.key < $1.key }).enumerated() {
            let (name, artifact) = entry
            guard let reference = ArtifactReference(text: name), let adapter = reference.adapter,
                wanted?.contains(adapter.text) ?? true
            else { continue }
            let pinned = reference.pinned(to: artifact["version"]?.integer ?? 1)
            if let reason = Self.obstacle(artifact, pinned, moved, base: to.base) {
                left.append((pinned.text, reason))
                continue
            }
            candidates.append(
                Candidate(
                    reference: pinned, name: adapter, place: place,
                    inputs: Self.inputs(of: artifact)))
        }
        if newest.isEmpty {
            throw ToolError.usage("\(from.reference) has no adapters")
        }
    }

    /// A model's newest or named version, and what its matrices are called.
    private static func model(
        _ text: String, what: String, _ session: Session
    ) throws -> (reference: ArtifactReference, base: String) {
        try NameCheck.checkReference(text, what: what)
        let found = try session.client.artifacts(type: "model", name: text)
            .max { ($0["version"]?.integer ?? 0) < ($1["version"]?.integer ?? 0) }
        guard let found, let reference = found["name"]?.string.flatMap(ArtifactReference.init),
            let version = found["version"]?.integer, let base = found["meta"]?["base"]?.string
        else { throw ArtifactText.missing(text, "model") }
        return (reference.pinned(to: version), base)
    }

    /// `a,b` or `M:a,M:b`
    private static func names(_ list: String, of model: WireName) throws -> [String] {
        try list.split(separator: ",").map { part in
            let text = String(part)
            let name =
                text.hasPrefix(model.text + ":")
                ? String(text.dropFirst(model.text.utf8.count + 1)) : text
            try NameCheck.check(name, what: "--only")
            return name
        }
    }

    /// Why an adapter cannot move; nil where it can.
    private static func obstacle(
        _ artifact: JSONValue, _ pinned: ArtifactReference, _ moved: [JSONValue], base: String
    ) -> String? {
        let meta = artifact["meta"]
        let earlier = moved.first { other in
            other["meta"]?["base"]?.string == base
                && other["meta"]?["rebased"] != nil
                && other["meta"]?["parents"]?.array?.first?["digest"]?.string
                    == artifact["digest"]?.string
        }
        if let name = earlier?["name"]?.string, let version = earlier?["version"]?.integer {
            return "it has moved already, to \(name)@\(version)"
        }
        guard meta?["recipe"]?.object != nil, meta?["inputs"]?["train"]?.string != nil else {
            return
                "no recipe and data are kept of it, since it was not trained here; train one with `loraq finetune`"
        }
        return nil
    }

    private static func inputs(of artifact: JSONValue) -> [JobRequest.Input] {
        ["train", "eval"].compactMap { name in
            artifact["meta"]?["inputs"]?[name]?.string.flatMap(ContentDigest.init(text:)).map {
                .blob(name: name, digest: $0)
            }
        }
    }
}
