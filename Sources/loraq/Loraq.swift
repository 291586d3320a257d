import ArgumentParser

/// The root of the command line: its subcommands and what `--help` says about all of them.
struct Loraq: ParsableCommand {
    static let version = "0.1.0"

    static let configuration = CommandConfiguration(
        commandName: "loraq",
        abstract: "A queue for LoRA: fine-tune adapters and run them, thousands on one base model.",
        usage: "loraq <subcommand> [options]",
        discussion: """
            Begin with `loraq up` and `loraq models add NAME FOLDER`.

            Where a command takes JOB, it may be: an id, the unique beginning or end of one, a label, \
            `last`, and, where several jobs make sense, `all`.

            Exit codes:
            \(exitCodes)

            NO_COLOR switches colors off. Shell completion: loraq --generate-completion-script bash.
            """,
        version: version,
        groupedSubcommands: [
            CommandGroup(
                name: "Broker",
                subcommands: [
                    Up.self, Down.self, Ping.self, Doctor.self, Workers.self, Backup.self,
                    Keys.self,
                ]),
            CommandGroup(name: "Models and adapters", subcommands: [Models.self, Adapters.self]),
            CommandGroup(
                name: "Submitting",
                subcommands: [
                    Finetune.self, Batch.self, Submit.self, Generate.self, Chat.self,
                    DataCommand.self, Plan.self, Evaluate.self, Rebase.self,
                ]),
            CommandGroup(
                name: "Jobs",
                subcommands: [
                    Jobs.self, Status.self, Wait.self, Results.self, Errors.self, Cancel.self,
                    Retry.self, Hold.self, Release.self, Explain.self, Verify.self, Logs.self,
                    Events.self, Top.self,
                ]),
        ])

    private static var exitCodes: String {
        ExitStatus.allCases.map { status in
            let number = "\(status.rawValue)"
            return "  " + number + String(repeating: " ", count: 5 - number.count)
                + status.explanation
        }.joined(separator: "\n")
    }
}
