/// `HELLO` on the control socket. Optional there.
public struct ClientHello: Codable, Sendable, Equatable {
    /// Name and version of the client, for the broker's log.
    public var client: String
    public var protocols: [String]

    public init(client: String, protocols: [String] = [Message.tag]) {
        self.client = client
        self.protocols = protocols
    }
}

/// Header of `WELCOME` on the control socket.
public struct ClientWelcome: Codable, Sendable, Equatable {
    public var `protocol`: String
    public var brokerVersion: String
    /// Grows with each start of the broker.
    public var epoch: Int
    public var limits: LimitsObject
    public var heartbeatMs: Int
    public var features: [String]

    enum CodingKeys: String, CodingKey {
        case `protocol`
        case brokerVersion = "broker_version"
        case epoch, limits
        case heartbeatMs = "heartbeat_ms"
        case features
    }

    public init(
        brokerVersion: String, epoch: Int, limits: LimitsObject = LimitsObject(), heartbeatMs: Int,
        features: [String] = []
    ) {
        self.protocol = Message.tag
        self.brokerVersion = brokerVersion
        self.epoch = epoch
        self.limits = limits
        self.heartbeatMs = heartbeatMs
        self.features = features
    }
}

/// `limits` in `WELCOME`: what the broker takes in one message.
public struct LimitsObject: Codable, Sendable, Equatable {
    public var headerBytes: Int
    public var bodyBytes: Int
    public var bodies: Int
    /// Submissions in one `SUBMIT_BATCH`.
    public var submissions: Int
    /// Items in one page of a paged answer.
    public var page: Int
    /// Results in one `RESULT`.
    public var results: Int

    enum CodingKeys: String, CodingKey {
        case headerBytes = "header_bytes"
        case bodyBytes = "body_bytes"
        case bodies, submissions, page, results
    }

    public init(
        headerBytes: Int = WireLimits.headerBytes, bodyBytes: Int = WireLimits.bodyBytes,
        bodies: Int = WireLimits.bodies, submissions: Int = WireLimits.submissions,
        page: Int = WireLimits.page, results: Int = WireLimits.results
    ) {
        self.headerBytes = headerBytes
        self.bodyBytes = bodyBytes
        self.bodies = bodies
        self.submissions = submissions
        self.page = page
        self.results = results
    }
}
