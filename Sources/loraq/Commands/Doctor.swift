import ArgumentParser
import Foundation
import JSONModel
import LoraqClient

struct Doctor: CommonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Check machine, folder, broker and workers, and say what to do.",
        discussion: "Ends with exit code 1 if a check failed; warnings do not count.")
    @OptionGroup var common: CommonOptions

    func run() throws {
        let home = try Session.home(common)
        let findings = examination(of: home).all()
        let terminal = Terminal.current
        if common.json {
            let document = JSONValue.object(["checks": .array(findings.map(\.json))])
            try StandardStreams.print(document.text(pretty: terminal.outputIsTerminal))
        } else {
            try StandardStreams.print(
                Finding.text(findings, style: terminal.style), terminator: "")
        }
        if findings.contains(where: { $0.verdict == .fail }) {
            throw ExitCode(ExitStatus.failure.rawValue)
        }
    }

    /// A home whose path is too long for a socket is a finding, and no reason to examine nothing.
    private func examination(of home: LoraqHome) -> Examination {
        var examination = Examination(
            home: home, installation: Installation(ownPath: DetachedProcess.ownPath()),
            path: ProcessInfo.processInfo.environment["PATH"])
        do {
            examination.session = try Session(common)
        } catch {
            examination.fault = "\(error)"
        }
        return examination
    }
}
