import JSONModel

/// What the broker looks at in one line of an input file.
///
/// For `infer` it is an OpenAI batch line, `{"custom_id", "method", "url", "body"}`; the worker
/// checks the rest of `body`. A plugin's own lines need only be objects with a `custom_id`.
public struct BatchLine: Sendable, Equatable {
    public static let customIDBytes = 512
    public static let urls = ["/v1/chat/completions", "/v1/completions"]

    public var customID: String
    /// `body.model`, or the default of the job's spec.
    public var model: ArtifactReference?

    /// - Parameters:
    ///   - bytes: The line, without its line feed.
    ///   - isInfer: Whether the line must have OpenAI's shape.
    ///   - defaultModel: Used where the line names no model.
    /// - Throws: `BAD_LINE` that names the key. `customID(in:)` may still find the id.
    public init(
        bytes: UnsafeRawBufferPointer, isInfer: Bool, defaultModel: ArtifactReference? = nil
    ) throws(WireError) {
        let value: JSONValue
        do {
            value = try JSONValue.parse(bytes)
        } catch {
            throw WireError(.badLine, "not JSON: \(error.message) (column \(error.column))")
        }
        try self.init(value, isInfer: isInfer, defaultModel: defaultModel)
    }

    public init(_ value: JSONValue, isInfer: Bool, defaultModel: ArtifactReference? = nil)
        throws(WireError)
    {
        guard let line = value.object else {
            throw WireError(.badLine, "the line must be an object, not \(value.kindName)")
        }
        customID = try Self.customID(of: line)
        guard isInfer else { return }
        if let method = line["method"] {
            guard method.string == "POST" else {
                throw WireError(.badLine, "must be `POST`", key: "method")
            }
        }
        guard let url = line["url"] else { throw WireError(.badLine, "is missing", key: "url") }
        guard let text = url.string, Self.urls.contains(text) else {
            throw WireError(
                .badLine, "must be \(Self.urls.map { "`\($0)`" }.joined(separator: " or "))",
                key: "url")
        }
        guard let body = line["body"] else { throw WireError(.badLine, "is missing", key: "body") }
        guard let fields = body.object else {
            throw WireError(.badLine, "must be an object, not \(body.kindName)", key: "body")
        }
        guard let named = fields["model"] else {
            guard let defaultModel else {
                throw WireError(
                    .badLine, "is missing, and the job names no default model", key: "body.model")
            }
            model = defaultModel
            return
        }
        guard let name = named.string, let reference = ArtifactReference(text: name) else {
            throw WireError(.badLine, "must be \(ArtifactReference.form)", key: "body.model")
        }
        model = reference
    }

    private static func customID(of line: JSONObject) throws(WireError) -> String {
        guard let value = line["custom_id"] else {
            throw WireError(.badLine, "is missing", key: "custom_id")
        }
        guard let text = value.string else {
            throw WireError(.badLine, "must be a string, not \(value.kindName)", key: "custom_id")
        }
        guard (1...customIDBytes).contains(text.utf8.count) else {
            throw WireError(.badLine, "must have 1 to \(customIDBytes) bytes", key: "custom_id")
        }
        return text
    }
}

/// A line of a job's output, in the shape of OpenAI's batch output.
public struct OutputLine: Codable, Sendable, Equatable {
    /// HTTP's words around the body that a server would have sent.
    public struct Response: Codable, Sendable, Equatable {
        public var statusCode: Int
        public var requestID: String
        public var body: JSONValue

        enum CodingKeys: String, CodingKey {
            case statusCode = "status_code"
            case requestID = "request_id"
            case body
        }

        public init(statusCode: Int = 200, requestID: String, body: JSONValue) {
            self.statusCode = statusCode
            self.requestID = requestID
            self.body = body
        }
    }

    /// Why there is no response: OpenAI's two fields, and where to look.
    public struct Failure: Codable, Sendable, Equatable {
        public var code: ErrorCode
        public var message: String
        /// Of the input file, from 1.
        public var line: Int?
        /// The field at fault, such as `body.temperature`.
        public var param: String?

        public init(code: ErrorCode, message: String, line: Int? = nil, param: String? = nil) {
            self.code = code
            self.message = message
            self.line = line
            self.param = param
        }
    }

    /// The task: `<job>/<index>`.
    public var id: String
    /// Nil where the line had none that could be read.
    public var customID: String?
    /// Exactly one of `response` and `error` is not null; both are always written.
    public var response: Response?
    public var error: Failure?

    enum CodingKeys: String, CodingKey {
        case id
        case customID = "custom_id"
        case response, error
    }

    public init(task: TaskID, customID: String?, response: Response) {
        id = task.text
        self.customID = customID
        self.response = response
    }

    public init(task: TaskID, customID: String?, error: Failure) {
        id = task.text
        self.customID = customID
        self.error = error
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        id = try fields.decode(String.self, forKey: .id)
        customID = try fields.decodeIfPresent(String.self, forKey: .customID)
        response = try fields.decodeIfPresent(Response.self, forKey: .response)
        error = try fields.decodeIfPresent(Failure.self, forKey: .error)
        guard (response == nil) != (error == nil) else {
            throw WireError(.badHeader, "exactly one of `response` and `error` must be given")
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: CodingKeys.self)
        try fields.encode(id, forKey: .id)
        try fields.encode(customID, forKey: .customID)
        try fields.encode(response, forKey: .response)
        try fields.encode(error, forKey: .error)
    }

    /// The line's bytes, without line feed.
    public func serialized() throws(WireError) -> [UInt8] {
        try WireEncoder.encode(self).serialized()
    }
}
