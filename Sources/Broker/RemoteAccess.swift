import LinuxSystem
import WireProtocol
import ZeroMQ

/// The keys of a home, made by `loraq keys`: the broker's own, and the public keys of the clients that may connect by TCP.
struct BrokerKeys {
    let folder: String
    static let maximumClients = 1_000

    private var clients: String { "\(folder)/clients" }

    func secretKey() throws -> String {
        let path = "\(folder)/server.secret"
        guard let bytes = try? FilePath.read(path, limit: 256) else {
            throw BrokerStartError(
                .noKeys,
                "--listen needs keys, and there is no \(path): make them with `loraq keys add NAME --address HOST:PORT`"
            )
        }
        let text = String(decoding: bytes.prefix { $0 > 0x20 }, as: UTF8.self)
        guard CurveKey.publicKey(of: text) != nil else {
            throw BrokerStartError(.noKeys, "\(path) is no CURVE key")
        }
        return text
    }

    /// The client that has this public key. Read anew for each connection, so that a key that is removed lets nobody in again.
    func client(with publicKey: [UInt8]) -> String? {
        let names = (try? FilePath.entries(of: clients)) ?? []
        for name in names.prefix(Self.maximumClients) where name.hasSuffix(".public") {
            guard let bytes = try? FilePath.read("\(clients)/\(name)", limit: 256) else { continue }
            let text = String(decoding: bytes.prefix { $0 > 0x20 }, as: UTF8.self)
            if CurveKey.bytes(of: text) == publicKey { return String(name.dropLast(7)) }
        }
        return nil
    }
}

/// The TCP side of the broker: control and events over CURVE, beside their ipc endpoints.
final class RemoteAccess {
    private let keys: BrokerKeys
    let handler: Socket
    /// With the port that was got where 0 was asked for.
    let controlEndpoint: String
    private static let domain = "loraq"

    /// Control is bound to `address` and events to the port after it.
    init(
        _ address: ListenAddress, keys: BrokerKeys, context: Context, control: borrowing Socket,
        events: borrowing Socket
    ) throws {
        self.keys = keys
        let secretKey = try keys.secretKey()
        handler = try Socket(context, .reply)
        try handler.bind(CurveQuestion.endpoint)
        try control.serveCurve(secretKey: secretKey, domain: Self.domain)
        try events.serveCurve(secretKey: secretKey, domain: Self.domain)
        controlEndpoint = try control.bind(address.endpoint(port: address.port))
        try events.bind(address.endpoint(port: address.port + 1))
    }

    /// Answers what libzmq asks about new connections; who was refused and who let in.
    func answer(limit: Int, _ note: (String) -> Void) {
        for _ in 0..<limit {
            guard let frames = try? handler.receive() else { return }
            guard let question = CurveQuestion(frames, domain: Self.domain) else {
                note("a connection without CURVE was refused")
                _ = try? handler.send(CurveQuestion.refusal(frames))
                continue
            }
            let client = keys.client(with: question.publicKey)
            note(
                client.map { "\($0) has connected" }
                    ?? "a connection with an unknown key was refused")
            _ = try? handler.send(question.answer(client))
        }
    }
}

/// Where to listen: `HOST:PORT`, as `--listen` takes it.
public struct ListenAddress: Sendable, Equatable {
    /// An address of this machine, an interface's name, or `*`.
    public let host: String
    /// Events are on the port after it.
    public let port: Int

    /// Nil for what is no `HOST:PORT` with a port from 1 to 65534.
    public init?(text: String) {
        guard let mark = text.lastIndex(of: ":"), let port = Int(text[text.index(after: mark)...]),
            (1...65_534).contains(port)
        else { return nil }
        let host = String(text[..<mark])
        guard !host.isEmpty, !host.contains("/") else { return nil }
        self.host = host
        self.port = port
    }

    func endpoint(port: Int) -> String { "tcp://\(host):\(port)" }
}
