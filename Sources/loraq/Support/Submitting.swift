import LoraqClient

/// What happens after a submit, the same for every command that submits.
struct Submitting {
    let session: Session
    let waiting: WaitOptions
    /// Standard output is taken by results: the id goes to standard error.
    var outputIsTaken = false

    /// Submits, prints the id, and waits if asked to.
    ///
    /// - Parameter title: What the progress line calls the job.
    /// - Returns: The job in its final state, or nil where nothing is waited for.
    func run(_ request: JobRequest, title: String? = nil) throws -> JobSnapshot? {
        var waiter = JobWaiter(session: session, options: waiting)
        waiter.title = title
        if waiting.wait {
            waiter.events = try session.client.subscribe(to: ["job/\(request.id)"])
        }
        let accepted = try session.client.submit(request)
        if accepted.duplicate { session.note("the job was submitted before") }
        guard waiting.wait else {
            if session.json {
                try session.print(
                    json: .object([
                        "job": .string(accepted.job), "state": .string(accepted.state),
                        "duplicate": .bool(accepted.duplicate),
                    ]))
            } else {
                try session.print(accepted.job)
            }
            return nil
        }
        if !session.json {
            if outputIsTaken { session.note(accepted.job) } else { try session.print(accepted.job) }
        }
        return try waiter.wait(for: [accepted.job]).first
    }

    /// Prints the end of a job that was waited for and sets the exit code.
    func conclude(_ job: JobSnapshot, summary: String? = nil) throws {
        if session.json, !outputIsTaken {
            try session.print(json: job.json)
        } else if session.json {
            if let error = job.error {
                EntryPoint.show(ToolError(error, hint: "loraq status \(job.id)"), asJSON: true)
            }
        } else if let error = job.error {
            session.note(JobText.errorText(error, style: session.terminal.errorStyle))
        } else if job.state != "succeeded" {
            session.note("the job is \(job.state)\(Wait.remark(job))")
        } else {
            if let summary { session.note(summary) }
            for warning in job.result?["warnings"]?.array ?? [] {
                session.note("warning: " + TextTable.oneLine(warning.string ?? ""))
            }
        }
        try JobWaiter.finish([job])
    }

    /// A file as an input, uploaded as a blob. A FIFO or a pipe is copied first.
    func input(_ name: String, file: String) throws -> JobRequest.Input {
        try input(name, InputSource(file, what: "\(name) file"))
    }

    func input(_ name: String, _ source: InputSource) throws -> JobRequest.Input {
        let size = try InputFile.check(source.path, what: "\(name) file")
        let file = source.shown
        let display = ProgressDisplay.standard(quiet: waiting.quiet || size < 8 << 20)
        let watch = Stopwatch()
        var rate = RateMeter()
        var phase = UploadProgress.Phase.reading
        let upload = BlobUpload(client: session.client) { progress in
            if progress.phase != phase { rate = RateMeter() }
            phase = progress.phase
            rate.add(Double(progress.done), at: watch.elapsed)
            var shown = JobProgress(
                title: progress.phase == .reading ? "reading \(file)" : "uploading \(file)",
                state: "uploading", done: Double(progress.done) / 1_048_576,
                total: Double(progress.total) / 1_048_576, unit: "MiB")
            if let perSecond = rate.perSecond, perSecond > 0 {
                shown.figures.append(HumanText.bytes(Int(min(perSecond, 1e15))) + "/s")
                shown.remainingSeconds = Double(progress.total - progress.done) / perSecond
            }
            display.show(shown, at: watch.elapsed)
        }
        defer { display.erase() }
        return .blob(name: name, digest: try upload.send(source.path).digest)
    }
}
