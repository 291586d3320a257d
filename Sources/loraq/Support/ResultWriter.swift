import JSONModel
import LoraqClient

/// Fetches a job's lines into a file or to standard output.
struct ResultWriter {
    let session: Session

    /// - Parameters:
    ///   - output: A file, or nil or `-` for standard output.
    ///   - inputs: Files that must not be written over, whatever `replaces` says.
    /// - Returns: How many lines were written; nil if no file was: a job that did not succeed and has no such line leaves
    ///   none behind, so that the next try finds the name free.
    func write(
        _ job: JobSnapshot, stream: ResultStream.Stream, ordered: Bool, to output: String?,
        replaces: Bool, inputs: [String] = []
    ) throws -> Int? {
        var lines = ResultStream(
            client: session.client, job: job.id, stream: stream,
            order: ordered ? .input : .completion,
            policy: RequestPolicy(timeout: .seconds(60), waitsForBroker: true))
        let command = stream == .errors ? "errors" : "results"
        let hint = "the lines stay with the broker: loraq \(command) \(job.id) -o FILE"
        do {
            guard let output, output != "-" else {
                return try lines.readAll { try StandardStreams.write($0.lines) }.lines
            }
            let file = try OutputFile(output, replaces: replaces, inputs: inputs)
            let count = try lines.readAll { try file.write($0.lines) }.lines
            if count == 0, !replaces, job.isFinal, job.state != "succeeded" {
                file.abandon()
                session.note("\(output) was not written: the job has no such lines")
                return nil
            }
            try file.commit()
            return count
        } catch let error as ToolError {
            throw ToolError(error.status, error.message, hint: hint)
        } catch let error as ClientError {
            switch error.kind {
            case .interrupted:
                throw ToolError(
                    .interrupted, "interrupted; \(output ?? "the output") was not written in full",
                    hint: hint)
            case .file, .badRequest: throw ToolError(.failure, error.message, hint: hint)
            default: throw error
            }
        }
    }

    /// Says what was written into a file.
    static func report(
        _ lines: Int, of job: JobSnapshot, in output: String, _ session: Session
    ) throws {
        session.note("\(HumanText.plural(lines, "line")) to \(output)")
        guard session.json else { return }
        try session.print(
            json: [
                "job": .string(job.id), "output": .string(output), "lines": .integer(Int64(lines)),
            ])
    }
}
