import ArgumentParser

/// How long a wait may take.
struct WaitOptions: ParsableArguments {
    @Flag(help: "Wait for the end, with progress on standard error.")
    var wait = false

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "With --wait: give up waiting after this long (the job goes on; exit code 4).",
            valueName: "seconds"), transform: Quantity.seconds)
    var timeout: Double?

    @Flag(name: .shortAndLong, help: "No progress.")
    var quiet = false

    var limit: Duration? { timeout.map { .milliseconds(Int64($0 * 1000)) } }
}
