import Foundation
import JSONModel
import LinuxSystem

/// `metrics.jsonl`: one line an optimizer step or evaluation, in order, each step once also after a resume.
struct MetricsLog {
    let path: String

    /// Keeps the lines up to `step`; those that will be written again go.
    ///
    /// - Parameters:
    ///   - lastStep: The run's last step, whose evaluation is always made anew.
    ///   - isEvaluated: Whether the evaluation of `step` is part of the state that is gone on from.
    func truncate(after step: Int, lastStep: Int, isEvaluated: Bool = true) throws {
        guard FilePath.exists(path) else { return }
        do {
            let bytes = try FilePath.read(path, limit: 1 << 34)
            var kept: [UInt8] = []
            for line in bytes.split(separator: 10) {
                // A line that was cut by a crash is no JSON and goes too.
                guard let value = try? JSONValue.parse(Array(line)),
                    let lineStep = value["step"]?.integer, lineStep <= step,
                    value["eval_loss"] == nil
                        || (lineStep < lastStep && (lineStep < step || isEvaluated))
                else { continue }
                kept += line + [10]
            }
            try DurableFile.write(kept, to: path)
        } catch {
            throw FineTuneError(.checkpoint, "\(error)")
        }
    }

    /// Appends one line.
    func append(_ value: JSONValue) throws {
        if !FilePath.exists(path) {
            do { try DurableFile.write([UInt8](), to: path) } catch {
                throw FineTuneError(.checkpoint, "\(error)")
            }
        }
        guard let handle = FileHandle(forWritingAtPath: path) else {
            throw FineTuneError(.checkpoint, "cannot open \(path) for writing")
        }
        defer { try? handle.close() }
        do {
            try handle.seekToEnd()
            try handle.write(contentsOf: Data(value.serialized() + [10]))
        } catch {
            throw FineTuneError(.checkpoint, "cannot write \(path): \(error)")
        }
    }
}
