import Foundation
import Glibc

/// What the process's standard streams are, read once at start.
struct Terminal: Sendable {
    let outputIsTerminal: Bool
    let errorIsTerminal: Bool
    let inputIsTerminal: Bool
    let style: TextStyle
    let errorStyle: TextStyle
    /// Whether block characters can be shown (a UTF-8 locale).
    let showsUnicode: Bool

    static let current = Terminal(environment: ProcessInfo.processInfo.environment)

    init(environment: [String: String]) {
        let dumb = environment["TERM"].map { $0 == "dumb" || $0.isEmpty } ?? true
        outputIsTerminal = isatty(STDOUT_FILENO) == 1
        errorIsTerminal = isatty(STDERR_FILENO) == 1 && !dumb
        inputIsTerminal = isatty(STDIN_FILENO) == 1
        let noColor = !(environment["NO_COLOR"] ?? "").isEmpty
        style = outputIsTerminal && !dumb && !noColor ? .colored : .plain
        errorStyle = errorIsTerminal && !noColor ? .colored : .plain
        let locale =
            [environment["LC_ALL"], environment["LC_CTYPE"], environment["LANG"]]
            .compactMap { $0 }.first { !$0.isEmpty } ?? ""
        let lowered = locale.lowercased()
        showsUnicode = lowered.contains("utf-8") || lowered.contains("utf8")
    }

    /// Columns of the terminal behind `descriptor`; 80 where it does not say.
    static func width(of descriptor: Int32) -> Int {
        var size = winsize()
        guard ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
        return Int(size.ws_col)
    }

    /// Columns and rows of the terminal behind `descriptor`; 80 by 24 where it does not say.
    static func size(of descriptor: Int32) -> (columns: Int, rows: Int) {
        var size = winsize()
        guard ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0
        else { return (80, 24) }
        return (Int(size.ws_col), Int(size.ws_row))
    }

    /// The width to lay out standard output for, or nil when it is no terminal (nothing is cut then).
    var outputWidth: Int? { outputIsTerminal ? Terminal.width(of: STDOUT_FILENO) : nil }
}

/// Whole writes to the standard streams. A closed pipe ends the process by SIGPIPE, as with other tools.
enum StandardStreams {
    static func print(_ text: String, terminator: String = "\n") throws {
        try write(Array((text + terminator).utf8))
    }

    /// Writes all to standard output.
    ///
    /// - Throws: `.interrupted` after Ctrl-C while the reader takes nothing; `.failure` with the system's reason.
    static func write(_ bytes: [UInt8]) throws(ToolError) {
        var offset = 0
        while offset < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.write(STDOUT_FILENO, $0.baseAddress.map { $0 + offset }, $0.count - offset)
            }
            let code = errno
            if count >= 0 { offset += count }
            if count >= 0 || code == EINTR {
                // A signal breaks a write off, at its beginning or in the middle.
                guard offset == bytes.count || !Interrupts.isInterrupted else {
                    throw ToolError(.interrupted, "interrupted")
                }
                continue
            }
            throw ToolError(
                .failure, "cannot write to standard output: \(ToolError.systemMessage(code))",
                hint: "check that the disk is not full; results can be read again from the broker")
        }
    }

    /// A line for the person on standard error; that it cannot be written is no reason to stop.
    static func note(_ text: String) { writeError(text + "\n") }

    static func writeError(_ text: String) {
        try? FileHandle.standardError.write(contentsOf: Data(text.utf8))
    }
}
