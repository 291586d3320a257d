import ArgumentParser
import JSONModel

/// What every command takes.
struct CommonOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The broker's folder (default: $LORAQ_HOME, then ~/.local/share/loraq).",
            valueName: "folder"))
    var home: String?

    @Flag(help: "Print one JSON document for machines.")
    var json = false

    mutating func validate() throws {
        if home?.isEmpty == true { throw ValidationError("--home must name a folder") }
    }
}
