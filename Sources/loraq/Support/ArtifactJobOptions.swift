import ArgumentParser
import JSONModel
import LoraqClient

/// What commands have in common whose job ends with an artifact: they wait unless told otherwise.
struct ArtifactJobOptions: ParsableArguments {
    @Flag(help: "Do not wait until it is registered.") var noWait = false
    @Option(
        help: ArgumentHelp(
            "Give up waiting after this long (the job goes on; exit code 4).",
            valueName: "seconds"))
    var timeout: Double?
    @Flag(name: .shortAndLong, help: "No progress.") var quiet = false

    var waiting: WaitOptions {
        Registration.waiting(noWait: noWait, timeout: timeout, quiet: quiet)
    }
}
