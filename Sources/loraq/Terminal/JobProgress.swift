import JSONModel
import LoraqClient

/// What is shown of a job on its way: pure data, made by `JobProgressTracker`.
struct JobProgress: Equatable {
    var title: String
    var state: String
    /// In `unit`s; nil where it is not known (yet).
    var done: Double?
    var total: Double?
    var unit: String
    var figures: [String] = []
    /// Seconds until the end at the present rate.
    var remainingSeconds: Double?

    var fraction: Double? {
        guard let done, let total, total > 0, done.isFinite, total.isFinite else { return nil }
        return min(1, max(0, done / total))
    }
}

/// Turns a job's snapshots into progress with rates.
struct JobProgressTracker {
    private var units = RateMeter()
    private var tokens = RateMeter()
    private let title: String

    init(title: String) { self.title = title }

    /// - Parameter time: Time since any fixed moment, by a monotonic clock.
    mutating func update(_ job: JobSnapshot, at time: Duration) -> JobProgress {
        var progress = JobProgress(title: title, state: job.state, unit: "tasks")
        let isSingle = job.total == 1 && job.kind != "infer"
        if isSingle || job.progress != nil, job.total ?? 1 == 1 {
            read(job.progress, into: &progress)
        } else {
            progress.unit = "lines"
            progress.done = Double(job.finished)
            progress.total = job.total.map(Double.init)
            if job.lost > 0 { progress.figures.append("\(HumanText.count(job.lost)) failed") }
        }
        guard !job.isFinal else { return progress }
        if let done = progress.done {
            units.add(done, at: time)
            if let rate = units.perSecond, rate > 0 {
                progress.figures.append(HumanText.rate(rate, unit: progress.unit))
                if let total = progress.total, total >= done, job.state == "running" {
                    progress.remainingSeconds = (total - done) / rate
                }
            }
        }
        addTokenRate(of: job, at: time, to: &progress)
        addMetrics(of: job, to: &progress)
        return progress
    }

    private func read(_ reported: JSONValue?, into progress: inout JobProgress) {
        guard let reported else { return }
        progress.done = reported["done"]?.double
        progress.total = reported["total"]?.double
        progress.unit = reported["unit"]?.string ?? "units"
        if let message = reported["message"]?.string, !message.isEmpty {
            progress.figures.append(TextTable.oneLine(String(message.prefix(60))))
        }
    }

    private mutating func addTokenRate(
        of job: JobSnapshot, at time: Duration, to progress: inout JobProgress
    ) {
        if let rate = job.progress?["metrics"]?["tokens_per_second"]?.double {
            progress.figures.append(HumanText.rate(rate, unit: "tokens"))
            return
        }
        let usage = job.usage
        let counted =
            usage?["completion_tokens"]?.double ?? usage?["total_tokens"]?.double
            ?? usage?["tokens"]?.double
        guard let counted, progress.unit != "tokens" else { return }
        tokens.add(counted, at: time)
        if let rate = tokens.perSecond, rate > 0 {
            progress.figures.append(HumanText.rate(rate, unit: "tokens"))
        }
    }

    private func addMetrics(of job: JobSnapshot, to progress: inout JobProgress) {
        guard let metrics = job.progress?["metrics"] else { return }
        for (key, shown) in [
            ("loss", "loss"), ("eval_loss", "eval loss"), ("learning_rate", "lr"),
        ] {
            if let value = metrics[key]?.double {
                progress.figures.append("\(shown) \(HumanText.significant(value))")
            }
        }
    }
}
