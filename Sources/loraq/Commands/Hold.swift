import ArgumentParser

struct Hold: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Keep jobs from starting; what runs goes on to its end.")

    @Argument(help: ArgumentHelp("Jobs.", valueName: "job")) var jobs: [String]
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws { try StateChange.run(.hold, jobs, session) }
}
