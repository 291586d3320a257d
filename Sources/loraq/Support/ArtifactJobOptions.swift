import ArgumentParser
import JSONModel
import LoraqClient

/// What commands have in common whose job ends with an artifact: they wait unless told otherwise.
struct ArtifactJobOptions: ParsableArguments {
    @Flag(help: "Do not wait until it is registered.") var noWait = false
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Give up waiting after this long (the job goes on; exit code 4).",
            valueName: "seconds"), transform: Quantity.seconds)
    var timeout: Double?
    @Flag(name: .shortAndLong, help: "No progress.") var quiet = false

    var waiting: WaitOptions {
        var options = WaitOptions()
        options.wait = !noWait
        options.timeout = timeout
        options.quiet = quiet
        return options
    }
}
