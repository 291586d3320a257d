import ArgumentParser

struct Release: SessionCommand {
    static let configuration = CommandConfiguration(abstract: "Let held jobs start.")

    @Argument(help: ArgumentHelp("Jobs.", valueName: "job")) var jobs: [String]
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws { try StateChange.run(.release, jobs, session) }
}
