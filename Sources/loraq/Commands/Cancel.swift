import ArgumentParser

struct Cancel: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "End jobs, queued or running; results that exist stay.")

    @Argument(help: ArgumentHelp("Jobs.", valueName: "job")) var jobs: [String]
    @Option(help: "Kept with the job.") var reason: String?
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        try StateChange.run(.cancel, jobs, reason: reason, session)
    }
}
