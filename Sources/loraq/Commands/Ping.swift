import ArgumentParser
import LinuxSystem
import LoraqClient
import WireProtocol

struct Ping: SessionCommand {
    static let configuration = CommandConfiguration(abstract: "Ask whether the broker answers.")
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        let start = MonotonicTime.now()
        let reply = try session.call(.ping, policy: RequestPolicy(timeout: .seconds(10)))
        let took = MonotonicTime.now() - start
        if session.json { return try session.print(json: reply.header) }
        try session.print(BrokerText.presence(reply.header, session.home, roundTrip: took))
    }
}
