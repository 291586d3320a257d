import LinuxSystem

/// Lays progress out as one line of a given width.
struct ProgressLayout {
    let showsUnicode: Bool
    let style: TextStyle
    static let barWidth = 24

    /// `batch 1f3a  [██████░░░░]  42%  840/2,000 lines  ETA 37s  31.2 lines/s`, cut to `width` columns.
    func line(_ progress: JobProgress, width: Int?) -> String {
        var parts: [String] = []
        if let fraction = progress.fraction {
            parts.append(bar(fraction))
            parts.append(HumanText.fixed(fraction * 100, digits: 0) + "%")
        } else {
            parts.append(progress.state)
        }
        parts.append(contentsOf: amounts(progress))
        return cut(progress.title, parts, width: width)
    }

    /// The same without a bar, for a log.
    func plainLine(_ progress: JobProgress) -> String {
        var parts = [progress.state]
        if let fraction = progress.fraction {
            parts.append(HumanText.fixed(fraction * 100, digits: 0) + "%")
        }
        parts.append(contentsOf: amounts(progress))
        return progress.title + "  " + parts.joined(separator: "  ")
    }

    private func amounts(_ progress: JobProgress) -> [String] {
        var parts: [String] = []
        if let done = progress.done {
            let total = progress.total.map { "/" + amount($0) } ?? ""
            let isOne = (progress.total ?? done) == 1 && progress.unit.hasSuffix("s")
            let unit = isOne ? String(progress.unit.dropLast()) : progress.unit
            parts.append("\(amount(done))\(total) \(unit)")
        }
        // Before the figures: on a narrow terminal the end is left off.
        if let seconds = progress.remainingSeconds {
            parts.append("ETA " + HumanText.span(seconds: seconds))
        }
        parts.append(contentsOf: progress.figures)
        return parts
    }

    private func amount(_ value: Double) -> String {
        value == value.rounded() && abs(value) < 1e15
            ? HumanText.count(Int(value)) : HumanText.fixed(value, digits: 1)
    }

    func bar(_ fraction: Double) -> String {
        let filled = Int((fraction * Double(Self.barWidth)).rounded(.down))
        let (full, empty) = showsUnicode ? ("█", "░") : ("#", "-")
        return "[" + String(repeating: full, count: filled)
            + String(repeating: empty, count: Self.barWidth - filled) + "]"
    }

    /// Leaves parts off from the end where the line would be too wide.
    private func cut(_ title: String, _ parts: [String], width: Int?) -> String {
        var line = title
        for part in parts {
            let longer = line + "  " + part
            if let width, longer.count >= width { break }
            line = longer
        }
        guard let width, line.count >= width else { return line }
        return String(line.prefix(max(0, width - 1)))
    }
}

/// Shows progress on standard error: one line redrawn in place on a terminal, now and then a line elsewhere.
final class ProgressDisplay {
    enum Mode {
        case terminal
        case plain
        case silent
    }

    private let mode: Mode
    private let layout: ProgressLayout
    private let width: () -> Int
    private let write: (String) -> Void
    private var lastShown: (at: Duration, state: String)?
    private var isDrawn = false

    static let redrawInterval = Duration.milliseconds(100)
    static let lineInterval = Duration.seconds(10)
    /// What ends sooner needs no line in a log.
    static let firstLine = Duration.seconds(1)

    init(
        mode: Mode, layout: ProgressLayout, width: @escaping () -> Int,
        write: @escaping (String) -> Void
    ) {
        self.mode = mode
        self.layout = layout
        self.width = width
        self.write = write
    }

    /// On the process's standard error.
    static func standard(quiet: Bool, terminal: Terminal = .current) -> ProgressDisplay {
        ProgressDisplay(
            mode: quiet ? .silent : terminal.errorIsTerminal ? .terminal : .plain,
            layout: ProgressLayout(
                showsUnicode: terminal.showsUnicode, style: terminal.errorStyle),
            width: { Terminal.width(of: 2) }, write: StandardStreams.writeError)
    }

    /// - Parameter time: Time since any fixed moment, by a monotonic clock.
    func show(_ progress: JobProgress, at time: Duration) {
        switch mode {
        case .silent: break
        case .terminal:
            if let last = lastShown, time - last.at < Self.redrawInterval,
                last.state == progress.state
            {
                return
            }
            write("\r" + layout.line(progress, width: width()) + "\u{1B}[K")
            isDrawn = true
            lastShown = (time, progress.state)
        case .plain:
            guard time >= Self.firstLine else { return }
            if let last = lastShown, time - last.at < Self.lineInterval,
                last.state == progress.state
            {
                return
            }
            write(layout.plainLine(progress) + "\n")
            lastShown = (time, progress.state)
        }
    }

    /// A line above the bar.
    func note(_ text: String) {
        erase()
        write(text + "\n")
    }

    /// Takes the bar off the terminal.
    func erase() {
        if isDrawn { write("\r\u{1B}[K") }
        isDrawn = false
    }
}

/// Time since the process looked first.
struct Stopwatch {
    private let start = MonotonicTime.now()
    var elapsed: Duration { MonotonicTime.now() - start }
}
