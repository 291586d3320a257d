import ArgumentParser

/// How long a wait may take.
struct WaitOptions: ParsableArguments {
    @Flag(help: "Wait for the end, with progress on standard error.")
    var wait = false

    @Option(
        help: ArgumentHelp(
            "With --wait: give up waiting after this long (the job goes on; exit code 4).",
            valueName: "seconds"))
    var timeout: Double?

    @Flag(name: .shortAndLong, help: "No progress.")
    var quiet = false

    mutating func validate() throws {
        if let timeout, !(timeout > 0 && timeout < 1e9) {
            throw ValidationError("--timeout must be above 0 seconds")
        }
    }

    var limit: Duration? { timeout.map { .milliseconds(Int64($0 * 1000)) } }
}
