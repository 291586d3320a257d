import ArgumentParser
import JSONModel
import LoraqClient
import WireProtocol

struct Report: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write a report of a fine-tune: one HTML file, to be opened in a browser.",
        discussion: """
            Curves, the account of the data, recipe, digests, and answers of base and adapter to some rows: those of the \
            evaluation or, without one, some that were trained. The answers are made by an `evaluate` job that is \
            submitted and waited for. The file loads nothing and runs nothing. With --json the same is printed as one \
            document too.
            """)

    @Argument(help: "A fine-tune.") var job: String
    @Option(
        name: .shortAndLong, help: ArgumentHelp("The file to write.", valueName: "file"))
    var output = "report.html"
    @Flag(help: "Replace the file if it exists.") var force = false
    @Option(
        parsing: .unconditional, help: "Rows to answer (default: 6; 0: none).",
        transform: Quantity.whole(0...100))
    var samples = 6
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Give up waiting for the answers after this long (exit code 4).", valueName: "seconds"),
        transform: Quantity.seconds)
    var timeout: Double?
    @Flag(name: .shortAndLong, help: "No progress.") var quiet = false
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        let found = try session.client.job(job)
        try Watch.check(found)
        if output != "-" { try OutputFile.check(output, replaces: force) }
        var data = try ReportData.gather(found, session)
        var waiting = WaitOptions()
        waiting.wait = true
        waiting.timeout = timeout
        waiting.quiet = quiet
        data.samples = try ReportSamples.make(data, count: samples, waiting: waiting, session)
        if case .none(let reason) = data.samples, samples > 0 {
            session.note("no answers: \(reason)")
        }
        let page = ReportPage(data: data).html
        if output == "-" { return try session.print(page, terminator: "") }
        let file = try OutputFile(output, replaces: force)
        do {
            try file.write(Array(page.utf8))
            try file.commit()
        } catch {
            file.abandon()
            throw error
        }
        session.note("the report is in \(output)")
        if session.json { try session.print(json: data.json) }
    }

    mutating func validate() throws {
        if output == "-", common.json {
            throw ValidationError("-o - and --json both write to standard output")
        }
    }
}
