import JSONModel
import LinuxSystem
import WireProtocol
import ZeroMQ

/// A client of one broker: the verbs of the control socket as calls, paged answers as loops.
public final class BrokerClient {
    public let home: LoraqHome
    public let connection: BrokerConnection
    private let context: Context

    /// Makes the sockets; connects to nothing until the first call.
    public init(home: LoraqHome) throws(ClientError) {
        self.home = home
        do throws(ZeroMQError) {
            context = try Context()
        } catch {
            throw ClientError(socket: error)
        }
        connection = try BrokerConnection(
            endpoint: home.controlEndpoint, context: context, curve: home.remote?.curve)
    }

    /// Subscribes to events whose topic begins with one of `topics` (all, if none is given).
    public func subscribe(to topics: [String]) throws(ClientError) -> EventSubscription {
        try EventSubscription(
            endpoint: home.eventsEndpoint, context: context, topics: topics,
            curve: home.remote?.curve)
    }

    // MARK: Jobs

    public func submit(
        _ job: JobRequest, policy: RequestPolicy = .persistent
    ) throws(ClientError) -> JobAcceptance {
        let reply = try connection.request(
            .submit, ["job": job.json], bodies: job.bodies, policy: policy)
        return JobAcceptance(
            job: reply.header["job"]?.string ?? job.id,
            state: reply.header["state"]?.string ?? "queued",
            duplicate: reply.header["duplicate"]?.bool ?? false)
    }

    /// Submits several jobs, as many in one message as it takes; the same again is safe.
    ///
    /// - Throws: `.refused` for the first job that the broker refuses; those before it are accepted.
    public func submit(
        _ jobs: [JobRequest], policy: RequestPolicy = .persistent
    ) throws(ClientError) -> [JobAcceptance] {
        var accepted: [JobAcceptance] = []
        var rest = jobs[...]
        while !rest.isEmpty {
            var part: [JSONValue] = []
            var room = 48 << 10
            while let job = rest.first, part.count < 200 {
                let json = job.json
                room -= json.serialized().count
                if room < 0, !part.isEmpty { break }
                part.append(json)
                rest = rest.dropFirst()
            }
            let reply = try connection.request(
                .submitBatch, ["jobs": .array(part)], policy: policy)
            for item in reply.header["results"]?.array ?? [] {
                if let error = item["error"].flatMap(JobSnapshot.errorObject) {
                    throw ClientError(refusal: error)
                }
                accepted.append(
                    JobAcceptance(
                        job: item["job"]?.string ?? "", state: item["state"]?.string ?? "queued",
                        duplicate: item["duplicate"]?.bool ?? false))
            }
        }
        return accepted
    }

    /// Selectors asked for at once: so many job objects mostly fit one reply's header.
    static let selectorsPerRequest = 32

    /// The jobs that the selectors name, in the broker's order, each once; with their specs where asked for.
    public func status(
        _ selectors: [String], withSpecs: Bool = false, policy: RequestPolicy = .usual
    ) throws(ClientError) -> [JobSnapshot] {
        var jobs: [JobSnapshot] = []
        var seen: Set<String> = []
        var rest = selectors[...]
        while !rest.isEmpty {
            let part = rest.prefix(Self.selectorsPerRequest)
            rest = rest.dropFirst(part.count)
            if part.contains("all") {
                for job in try list(filter: JSONObject(), limit: nil, policy: policy)
                where seen.insert(job.id).inserted { jobs.append(job) }
                continue
            }
            var header: JSONObject = ["jobs": .array(part.map { .string($0) })]
            if withSpecs { header["spec"] = true }
            try pages(.status, header, limit: nil, policy: policy) { reply throws(ClientError) in
                let page = try Self.jobs(in: reply)
                for job in page where seen.insert(job.id).inserted { jobs.append(job) }
                return page.count
            }
        }
        return jobs
    }

    /// The one job that the selector names.
    ///
    /// - Throws: `.refused` when there is none or more than one.
    public func job(_ selector: String) throws(ClientError) -> JobSnapshot {
        let jobs = try status([selector])
        guard let job = jobs.first else {
            throw ClientError(
                .refused(.unknownJob), "no job matches `\(selector)`",
                hint: "`loraq jobs` lists them")
        }
        guard jobs.count == 1 else {
            let some = jobs.prefix(5).map(\.id).joined(separator: ", ")
            throw ClientError(
                .refused(.ambiguous),
                "`\(selector)` names \(jobs.count) jobs, but one is needed: \(some)"
                    + (jobs.count > 5 ? ", …" : ""), hint: "give more of the id")
        }
        return job
    }

    /// Jobs by filter, newest first, over as many pages as needed; at most `limit`.
    public func list(
        filter: JSONObject, limit: Int?, policy: RequestPolicy = .usual
    ) throws(ClientError) -> [JobSnapshot] {
        var jobs: [JobSnapshot] = []
        try pages(.list, filter, limit: limit, policy: policy) { reply throws(ClientError) in
            let page = try Self.jobs(in: reply)
            jobs += page
            return page.count
        }
        return limit.map { Array(jobs.prefix($0)) } ?? jobs
    }

    private static func jobs(in reply: Message) throws(ClientError) -> [JobSnapshot] {
        guard let array = reply.header["jobs"]?.array else {
            throw ClientError(.badAnswer, "the broker's answer has no `jobs`")
        }
        var jobs: [JobSnapshot] = []
        for value in array { jobs.append(try JobSnapshot(value)) }
        return jobs
    }

    // MARK: Artifacts

    /// Models or adapters; `name` is a reference, `M:` stands for all adapters of M.
    public func artifacts(type: String?, name: String? = nil) throws(ClientError) -> [JSONValue] {
        var header = JSONObject()
        header["type"] = type.map { .string($0) }
        header["name"] = name.map { .string($0) }
        var artifacts: [JSONValue] = []
        try pages(.artifacts, header, limit: nil, policy: .usual) { reply throws(ClientError) in
            let page = reply.header["artifacts"]?.array ?? []
            artifacts += page
            return page.count
        }
        return artifacts
    }

    // MARK: Paging

    /// The most pages of one answer; a broker that never ends is not followed for ever.
    static let maximumPages = 1_000_000

    /// Asks page after page until there is no `next`, or `limit` entries were seen.
    ///
    /// - Throws: `.badAnswer` when the broker would go on from where it was asked to, or goes on for ever: to end there
    ///   would leave entries out unseen.
    func pages(
        _ verb: Verb, _ header: JSONObject, limit: Int?, policy: RequestPolicy,
        page: (Message) throws(ClientError) -> Int
    ) throws(ClientError) {
        var header = header
        var left = limit
        for _ in 0..<Self.maximumPages {
            if let left { header["limit"] = .integer(Int64(min(left, 1000))) }
            let reply = try connection.request(verb, header, policy: policy)
            let count = try page(reply)
            left = left.map { $0 - count }
            guard let next = reply.header["next"]?.string, left.map({ $0 > 0 }) ?? true else {
                return
            }
            guard next != header["after"]?.string else { break }
            header["after"] = .string(next)
        }
        throw ClientError(
            .badAnswer, "the broker's answers to \(verb) do not come to an end",
            hint: "broker and client may be of different versions: `loraq ping` shows both")
    }
}
