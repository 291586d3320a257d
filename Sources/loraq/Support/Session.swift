import ArgumentParser
import Foundation
import JSONModel
import LoraqClient
import WireProtocol

/// One run of a command against a broker: the client, and where output goes.
final class Session {
    let home: LoraqHome
    let client: BrokerClient
    let json: Bool
    let terminal: Terminal
    var style: TextStyle { terminal.style }

    init(_ options: CommonOptions) throws {
        home = try Session.home(options)
        client = try BrokerClient(home: home)
        json = options.json
        terminal = .current
        client.connection.isInterrupted = { Interrupts.isInterrupted }
    }

    static func home(_ options: CommonOptions) throws(ClientError) -> LoraqHome {
        try LoraqHome(explicit: options.home, environment: ProcessInfo.processInfo.environment)
    }

    /// Sends a request and gives the reply.
    @discardableResult
    func call(
        _ verb: Verb, _ header: JSONObject = JSONObject(), policy: RequestPolicy = .usual
    ) throws(ClientError) -> Message {
        try client.connection.request(verb, header, policy: policy)
    }

    func print(_ text: String, terminator: String = "\n") throws {
        try StandardStreams.print(text, terminator: terminator)
    }

    /// The document of `--json`: on one line for a pipe, indented for eyes.
    func print(json: JSONValue) throws {
        try print(json.text(pretty: terminal.outputIsTerminal))
    }

    /// A remark on standard error; left off with `--json`.
    func note(_ text: String) {
        if !json { StandardStreams.note(text) }
    }
}

/// A command with the options that all have.
protocol CommonCommand: ParsableCommand {
    var common: CommonOptions { get }
}

/// A command that talks to a broker.
protocol SessionCommand: CommonCommand {
    func run(_ session: Session) throws
}

extension SessionCommand {
    func run() throws { try run(Session(common)) }
}
