import ArgumentParser
import Foundation

struct Doctor: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Check machine, folder, broker and workers, and say what to do.",
        discussion: "Ends with exit code 1 if a check failed; warnings do not count.")
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        let examination = Examination(
            session: session, installation: Installation(ownPath: DetachedProcess.ownPath()),
            path: ProcessInfo.processInfo.environment["PATH"])
        let findings = examination.all()
        if session.json {
            try session.print(json: .object(["checks": .array(findings.map(\.json))]))
        } else {
            try session.print(Finding.text(findings, style: session.style), terminator: "")
        }
        if findings.contains(where: { $0.verdict == .fail }) {
            throw ExitCode(ExitStatus.failure.rawValue)
        }
    }
}
