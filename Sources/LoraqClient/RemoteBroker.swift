import JSONModel
import LinuxSystem
import ZeroMQ

/// A broker on another machine: what `broker.json` in a client's home says, as `loraq keys add` wrote it.
public struct RemoteBroker: Sendable, Equatable {
    public static let fileName = "broker.json"

    public var control: String
    public var events: String
    /// Keys in Z85: the broker's public one, and this client's pair.
    public var serverKey: String
    public var publicKey: String
    public var secretKey: String

    public init(
        control: String, events: String, serverKey: String, publicKey: String, secretKey: String
    ) {
        self.control = control
        self.events = events
        self.serverKey = serverKey
        self.publicKey = publicKey
        self.secretKey = secretKey
    }

    /// Nil if the folder has no such file.
    ///
    /// - Throws: `.badRequest` when it cannot be read or a field is missing or no key.
    init?(in folder: String) throws(ClientError) {
        let path = "\(folder)/\(Self.fileName)"
        guard FilePath.exists(path) else { return nil }
        let json: JSONValue
        do {
            json = try JSONValue.parse(FilePath.read(path, limit: 1 << 16))
        } catch {
            throw ClientError(.badRequest, "\(path): \(error)")
        }
        func text(_ name: String) throws(ClientError) -> String {
            guard let value = json[name]?.string, !value.isEmpty else {
                throw ClientError(
                    .badRequest, "\(path): `\(name)` is missing",
                    hint: "make the file with `loraq keys add` on the broker's machine")
            }
            return value
        }
        control = try text("control")
        events = try text("events")
        serverKey = try text("server_key")
        publicKey = try text("public_key")
        secretKey = try text("secret_key")
        for (name, key) in [
            ("server_key", serverKey), ("public_key", publicKey), ("secret_key", secretKey),
        ] where CurveKey.bytes(of: key) == nil {
            throw ClientError(.badRequest, "\(path): `\(name)` is no CURVE key")
        }
        for endpoint in [control, events] where !endpoint.hasPrefix("tcp://") {
            throw ClientError(.badRequest, "\(path): `\(endpoint)` is no tcp:// endpoint")
        }
    }

    var curve: CurveRole {
        .client(serverKey: serverKey, publicKey: publicKey, secretKey: secretKey)
    }

    public var json: JSONValue {
        .object([
            "control": .string(control), "events": .string(events),
            "server_key": .string(serverKey), "public_key": .string(publicKey),
            "secret_key": .string(secretKey),
        ])
    }
}

/// The keys in a broker's home: `keys/server.secret`, `keys/server.public` and `keys/clients/<name>.public`, the allow-list.
public struct KeyFolder {
    private let folder: String
    private var clients: String { "\(folder)/clients" }
    public static let maximumClients = 1_000

    public init(_ home: LoraqHome) { folder = home.path + "/keys" }

    /// Lets a client in by a new pair of keys; makes the broker's own first, where there are none.
    ///
    /// - Parameters:
    ///   - name: A wire name, checked by the caller.
    ///   - host, port: Where the client will find the broker; events are on the port after it.
    /// - Throws: `ClientError` of kind `.file`, also when the name is taken.
    public func add(_ name: String, host: String, port: Int) throws(ClientError) -> RemoteBroker {
        do {
            try DurableFile.createDirectories(folder, mode: 0o700)
            try DurableFile.createDirectories(clients, mode: 0o700)
            let serverKey = try serverKey()
            let path = "\(clients)/\(name).public"
            guard !FilePath.exists(path) else {
                throw ClientError(
                    .file, "there is a client \(name) already",
                    hint: "`loraq keys remove \(name)` shuts it out")
            }
            guard try names().count < Self.maximumClients else {
                throw ClientError(.file, "at most \(Self.maximumClients) clients can be let in")
            }
            let pair = try CurveKeyPair()
            try DurableFile.write(pair.publicKey + "\n", to: path)
            let shown = host.contains(":") && !host.hasPrefix("[") ? "[\(host)]" : host
            return RemoteBroker(
                control: "tcp://\(shown):\(port)", events: "tcp://\(shown):\(port + 1)",
                serverKey: serverKey, publicKey: pair.publicKey, secretKey: pair.secretKey)
        } catch let error as ClientError {
            throw error
        } catch {
            throw ClientError(.file, "\(error)")
        }
    }

    /// The broker's public key, made now if there is none.
    private func serverKey() throws -> String {
        let path = "\(folder)/server.secret"
        if FilePath.exists(path) {
            let bytes = try FilePath.read(path, limit: 256)
            let text = String(decoding: bytes.prefix { $0 > 0x20 }, as: UTF8.self)
            guard let key = CurveKey.publicKey(of: text) else {
                throw ClientError(.file, "\(path) is no CURVE key")
            }
            return key
        }
        let pair = try CurveKeyPair()
        try DurableFile.write(pair.publicKey + "\n", to: "\(folder)/server.public")
        try DurableFile.write(pair.secretKey + "\n", to: path)
        return pair.publicKey
    }

    /// The clients that are let in, sorted.
    public func names() throws(ClientError) -> [String] {
        guard FilePath.isDirectory(clients) else { return [] }
        do throws(SystemError) {
            return try FilePath.entries(of: clients).filter { $0.hasSuffix(".public") }
                .map { String($0.dropLast(7)) }
        } catch {
            throw ClientError(.file, error.description)
        }
    }

    /// Lets a client's key in no more. False: there is no such client.
    public func remove(_ name: String) throws(ClientError) -> Bool {
        let path = "\(clients)/\(name).public"
        guard FilePath.exists(path) else { return false }
        do throws(SystemError) {
            try DurableFile.removeTree(path)
        } catch {
            throw ClientError(.file, error.description)
        }
        return true
    }
}
