import JSONModel

/// The word that says what a message is.
public struct Verb: RawRepresentable, Hashable, Sendable, CustomStringConvertible,
    ExpressibleByStringLiteral
{
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
    public init(stringLiteral value: String) { rawValue = value }
    public var description: String { rawValue }

    // Replies and handshake
    public static let ok: Verb = "OK"
    public static let error: Verb = "ERROR"
    public static let hello: Verb = "HELLO"
    public static let welcome: Verb = "WELCOME"
    // Control
    public static let submit: Verb = "SUBMIT"
    public static let submitBatch: Verb = "SUBMIT_BATCH"
    public static let put: Verb = "PUT"
    public static let status: Verb = "STATUS"
    public static let list: Verb = "LIST"
    public static let cancel: Verb = "CANCEL"
    public static let retry: Verb = "RETRY"
    public static let hold: Verb = "HOLD"
    public static let release: Verb = "RELEASE"
    public static let explain: Verb = "EXPLAIN"
    public static let verify: Verb = "VERIFY"
    public static let backup: Verb = "BACKUP"
    public static let input: Verb = "INPUT"
    public static let fetch: Verb = "FETCH"
    public static let events: Verb = "EVENTS"
    public static let artifacts: Verb = "ARTIFACTS"
    public static let get: Verb = "GET"
    public static let tag: Verb = "TAG"
    public static let remove: Verb = "REMOVE"
    public static let workers: Verb = "WORKERS"
    public static let scale: Verb = "SCALE"
    public static let logs: Verb = "LOGS"
    public static let attach: Verb = "ATTACH"
    public static let detach: Verb = "DETACH"
    public static let drain: Verb = "DRAIN"
    public static let ping: Verb = "PING"
    // Dispatch
    public static let credit: Verb = "CREDIT"
    public static let task: Verb = "TASK"
    public static let beat: Verb = "BEAT"
    public static let beatAck: Verb = "BEAT_ACK"
    public static let `defer`: Verb = "DEFER"
    public static let preempt: Verb = "PREEMPT"
    public static let resultAck: Verb = "RESULT_ACK"
    public static let bye: Verb = "BYE"
    // Results
    public static let result: Verb = "RESULT"
    public static let progress: Verb = "PROGRESS"
    public static let log: Verb = "LOG"
    public static let chunk: Verb = "CHUNK"
    // Sinks and events
    public static let line: Verb = "LINE"
    public static let end: Verb = "END"
    public static let event: Verb = "EVENT"
}

/// Sizes that every peer keeps to, and that `WELCOME` states.
public enum WireLimits {
    public static let headerBytes = 64 << 10
    public static let bodyBytes = 4 << 20
    /// Bodies of one message.
    public static let bodies = 256
    public static let verbBytes = 32
    public static let requestIDBytes = 64
    /// How deep a header may nest.
    public static let depth = 64
    /// The largest `spec` of a submission, and the largest `meta` of an artifact, as JSON.
    public static let specBytes = 32 << 10
    public static let metaBytes = 8 << 10
    /// Submissions in one `SUBMIT_BATCH`.
    public static let submissions = 256
    /// Items in one page of a paged answer, and the default where the request states no `limit`.
    public static let page = 100
    /// Results in one `RESULT`.
    public static let results = 256
}

/// One message of LQP/1: a verb, a header, and bodies.
///
/// `request_id` and `bodies` belong to the frame layout, so the header types do not repeat them.
public struct Message: Sendable {
    public struct Body: Sendable, Equatable {
        public var name: String
        public var bytes: [UInt8]
        public init(_ name: String, _ bytes: [UInt8]) {
            self.name = name
            self.bytes = bytes
        }
    }

    public static let tag = "LQP/1"
    private static let tagBytes = Array(tag.utf8)

    public var verb: Verb
    /// The whole header but `request_id` and `bodies`.
    public var header: JSONValue
    public var requestID: String?
    public var bodies: [Body]
    /// Whether an empty frame stood before `LQP/1` (REQ sockets); the reply must have one too.
    public var hasDelimiter = false

    public init(
        verb: Verb, header: JSONValue = .object(JSONObject()), requestID: String? = nil,
        bodies: [Body] = []
    ) {
        self.verb = verb
        self.header = header
        self.requestID = requestID
        self.bodies = bodies
    }

    /// - Throws: `INTERNAL` when `header` has no JSON form.
    public init(
        _ verb: Verb, _ header: some Encodable, requestID: String? = nil, bodies: [Body] = []
    ) throws(WireError) {
        self.init(
            verb: verb, header: try WireEncoder.encode(header), requestID: requestID, bodies: bodies
        )
    }

    /// An `ERROR` in answer to a request.
    public static func error(_ error: ErrorObject, requestID: String? = nil) -> Message {
        let fallback: JSONValue = ["code": "INTERNAL", "class": "internal", "message": "?"]
        let value = (try? WireEncoder.encode(error)) ?? fallback
        return Message(
            verb: .error, header: .object(JSONObject([(key: "error", value: value)])),
            requestID: requestID)
    }

    /// The reply to this request, with its id and delimiter.
    public func reply(_ verb: Verb = .ok, _ header: some Encodable, bodies: [Body] = [])
        throws(WireError) -> Message
    {
        var reply = try Message(verb, header, requestID: requestID, bodies: bodies)
        reply.hasDelimiter = hasDelimiter
        return reply
    }

    public func reply(error: ErrorObject) -> Message {
        var reply = Message.error(error, requestID: requestID)
        reply.hasDelimiter = hasDelimiter
        return reply
    }

    /// The header as one of this module's types; fields it does not know are ignored.
    ///
    /// - Throws: `BAD_HEADER` that names the key, with the request's id.
    public func decode<Header: Decodable>(_ type: Header.Type) throws(WireError) -> Header {
        do {
            return try WireDecoder.decode(type, from: header)
        } catch {
            var error = error
            error.requestID = requestID
            throw error
        }
    }

    public func body(_ name: String) -> [UInt8]? { bodies.first { $0.name == name }?.bytes }

    /// The error in an `ERROR` message.
    public func decodeError() throws(WireError) -> ErrorObject {
        try decode(ErrorReply.self).error
    }
}

/// Header of `ERROR`.
public struct ErrorReply: Codable, Sendable, Equatable {
    public var error: ErrorObject
    public init(error: ErrorObject) { self.error = error }
}

// MARK: - Frames

extension Message {
    /// Lays the message out as the frames after the routing id.
    ///
    /// - Throws: `TOO_LARGE` when the header, a body or their number is over its limit.
    public func frames() throws(WireError) -> [[UInt8]] {
        guard bodies.count <= WireLimits.bodies else {
            throw WireError(
                .tooLarge, "\(bodies.count) bodies, at most \(WireLimits.bodies) fit one message")
        }
        var members: [(key: String, value: JSONValue)] = []
        if let requestID { members.append((key: "request_id", value: .string(requestID))) }
        if let object = header.object {
            members.append(contentsOf: object.entries)
        }
        if !bodies.isEmpty {
            let names = bodies.map { body -> JSONValue in
                ["name": .string(body.name), "bytes": .integer(Int64(body.bytes.count))]
            }
            members.append((key: "bodies", value: .array(names)))
        }
        let headerBytes = JSONValue.object(JSONObject(members)).serialized()
        guard headerBytes.count <= WireLimits.headerBytes else {
            throw WireError(
                .tooLarge,
                "the header of \(verb) has \(headerBytes.count) bytes, at most \(WireLimits.headerBytes) fit"
            )
        }
        var frames: [[UInt8]] = []
        frames.reserveCapacity(bodies.count + 4)
        if hasDelimiter { frames.append([]) }
        frames.append(Self.tagBytes)
        frames.append(Array(verb.rawValue.utf8))
        frames.append(headerBytes)
        for body in bodies {
            guard body.bytes.count <= WireLimits.bodyBytes else {
                throw WireError(
                    .tooLarge,
                    "body `\(body.name)` has \(body.bytes.count) bytes, at most \(WireLimits.bodyBytes) fit"
                )
            }
            frames.append(body.bytes)
        }
        return frames
    }

    /// Reads the frames after the routing id.
    ///
    /// Never traps, whatever the bytes are. The verb may be one that the receiver does not know.
    ///
    /// - Throws: `BAD_FRAME` (layout), `BAD_HEADER` (JSON or its fields), `TOO_LARGE`; with the
    ///   request's id as soon as the header could be read.
    public init(frames: [[UInt8]]) throws(WireError) {
        var position = 0
        var delimiter = false
        if let first = frames.first, first.isEmpty {
            delimiter = true
            position = 1
        }
        guard frames.count >= position + 3 else {
            throw WireError(
                .badFrame,
                "a message is `LQP/1`, verb, header, bodies; only \(frames.count - position) frames came"
            )
        }
        guard frames[position] == Self.tagBytes else {
            throw WireError(.badFrame, "the first frame is not `LQP/1`")
        }
        let verb = try Self.verb(from: frames[position + 1])
        let header = frames[position + 2]
        guard header.count <= WireLimits.headerBytes else {
            throw WireError(
                .tooLarge,
                "the header has \(header.count) bytes, at most \(WireLimits.headerBytes) are read")
        }
        let object: JSONObject
        do {
            let value = try JSONValue.parse(header, maximumDepth: WireLimits.depth)
            guard let parsed = value.object else {
                throw WireError(.badHeader, "the header must be an object, not \(value.kindName)")
            }
            object = parsed
        } catch let error as WireError {
            throw error
        } catch {
            throw WireError(.badHeader, "the header is not JSON: \(error)")
        }
        let requestID = try Self.requestID(in: object)
        do throws(WireError) {
            let bodies = try Self.bodies(
                named: object["bodies"], in: frames[(position + 3)...])
            var rest = object
            rest["request_id"] = nil
            rest["bodies"] = nil
            self.init(verb: verb, header: .object(rest), requestID: requestID, bodies: bodies)
            hasDelimiter = delimiter
        } catch {
            var error = error
            error.requestID = requestID
            throw error
        }
    }

    private static func verb(from frame: [UInt8]) throws(WireError) -> Verb {
        let isVerb =
            !frame.isEmpty && frame.count <= WireLimits.verbBytes
            && frame.allSatisfy {
                (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0) || $0 == UInt8(ascii: "_")
            }
        guard isVerb else {
            throw WireError(.badFrame, "the verb must be 1 to \(WireLimits.verbBytes) of A-Z and _")
        }
        return Verb(rawValue: String(decoding: frame, as: UTF8.self))
    }

    private static func requestID(in header: JSONObject) throws(WireError) -> String? {
        guard let value = header["request_id"], !value.isNull else { return nil }
        guard let text = value.string else {
            throw WireDecoder.mismatch("a string", value).inside("request_id")
        }
        guard text.utf8.count <= WireLimits.requestIDBytes else {
            throw WireError(
                .badHeader, "is longer than \(WireLimits.requestIDBytes) bytes", key: "request_id")
        }
        return text
    }

    private static func bodies(named list: JSONValue?, in frames: ArraySlice<[UInt8]>)
        throws(WireError) -> [Body]
    {
        var named: [JSONValue] = []
        if let list, !list.isNull {
            guard let array = list.array else {
                throw WireDecoder.mismatch("an array", list).inside("bodies")
            }
            named = array
        }
        guard named.count <= WireLimits.bodies, frames.count <= WireLimits.bodies else {
            throw WireError(
                .tooLarge, "\(frames.count) bodies, at most \(WireLimits.bodies) are read",
                key: "bodies")
        }
        guard named.count == frames.count else {
            throw WireError(
                .badFrame,
                "names \(named.count) bodies, but \(frames.count) frames follow the header",
                key: "bodies")
        }
        var bodies: [Body] = []
        bodies.reserveCapacity(named.count)
        for (index, (entry, bytes)) in zip(named, frames).enumerated() {
            guard let name = entry["name"]?.string, WireName(text: name) != nil else {
                throw WireError(
                    .badHeader, "must be \(WireName.form)", key: "bodies[\(index)].name")
            }
            guard bytes.count <= WireLimits.bodyBytes else {
                throw WireError(
                    .tooLarge, "has \(bytes.count) bytes, at most \(WireLimits.bodyBytes) are read",
                    key: "bodies[\(index)]")
            }
            guard entry["bytes"]?.integer == bytes.count else {
                throw WireError(
                    .badFrame, "does not give the size of the frame, \(bytes.count) bytes",
                    key: "bodies[\(index)].bytes")
            }
            bodies.append(Body(name, bytes))
        }
        return bodies
    }
}
