import JSONModel
import LinuxSystem
import WireProtocol

/// Reads a job's stored lines page by page; nothing but one page is in memory.
public struct ResultStream {
    public enum Stream: String, Sendable { case results, errors, all }
    public enum Order: String, Sendable { case completion, input }

    /// One answer of `FETCH`: whole lines, each ended by a newline.
    public struct Page: Sendable {
        public let lines: [UInt8]
        public let count: Int
        /// Nothing will follow.
        public let isLast: Bool
    }

    private let client: BrokerClient
    private let job: String
    private let stream: Stream
    private let order: Order
    private let policy: RequestPolicy
    /// Cursor of the next page.
    public private(set) var after: String?

    public init(
        client: BrokerClient, job: String, stream: Stream, order: Order = .completion,
        policy: RequestPolicy = .usual
    ) {
        self.client = client
        self.job = job
        self.stream = stream
        self.order = order
        self.policy = policy
    }

    public mutating func next(limit: Int? = nil) throws(ClientError) -> Page {
        var header: JSONObject = [
            "job": .string(job), "stream": .string(stream.rawValue),
            "order": .string(order.rawValue),
        ]
        header["after"] = after.map { .string($0) }
        header["limit"] = limit.map { .integer(Int64($0)) }
        let reply = try client.connection.request(.fetch, header, policy: policy)
        var lines = reply.body("lines") ?? []
        if let last = lines.last, last != UInt8(ascii: "\n") { lines.append(UInt8(ascii: "\n")) }
        let count = reply.header["count"]?.integer ?? 0
        after = reply.header["next"]?.string ?? after
        return Page(
            lines: lines, count: count, isLast: reply.header["complete"]?.bool ?? (count == 0))
    }

    /// Gives page after page to `consume` until there is nothing more for now.
    ///
    /// - Returns: How many lines there were, and whether the job can still bring more.
    public mutating func readAll(
        _ consume: (Page) throws -> Void
    ) throws -> (lines: Int, isComplete: Bool) {
        var total = 0
        while true {
            let before = after
            let page = try next()
            if page.count > 0 { try consume(page) }
            total += page.count
            if page.isLast { return (total, true) }
            // A page may hold none of the lines asked for and yet lead on to more.
            if page.count == 0, after == before { return (total, false) }
        }
    }
}
