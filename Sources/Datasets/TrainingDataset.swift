import JSONModel
import LinuxSystem

/// The examples of a data file, and an account of every row.
public struct TrainingDataset: Sendable {
    public let path: String
    public let examples: [TrainingExample]
    public let report: DatasetReport

    /// All tokens of a data set are kept in memory; more than this are refused.
    public static let maximumTokens = 1 << 30

    /// Reads a file. Rows that cannot be used are in `report.refused`; the others make examples.
    ///
    /// - Parameters:
    ///   - maximumRows: Rows to read; the rest is not looked at (for a check of the beginning).
    ///   - lines: Whether a row counts, by its line; the others are not looked at.
    ///   - progress: Called now and then with bytes read and bytes in all; throwing ends the reading.
    /// - Throws: `DatasetError` for the file as a whole.
    public static func read(
        path: String, builder: ExampleBuilder, maximumRows: Int = .max,
        lines: (Int) -> Bool = { _ in true },
        progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
    ) throws -> TrainingDataset {
        let file = try TrainingFile(path: path)
        var account = DatasetReport.Account()
        var examples: [TrainingExample] = []
        var done = 0
        struct Enough: Error {}
        do {
            try file.forEachLine { line, bytes in
                guard account.rows < maximumRows else { throw Enough() }
                done += bytes.count
                guard lines(line) else { return }
                account.rows += 1
                do throws(RefusedRow) {
                    let example = try Self.example(
                        bytes, line: line, builder: builder, account: &account)
                    account.add(example)
                    examples.append(example)
                } catch {
                    var refused = error
                    refused.line = line
                    account.refused.append(refused)
                }
                guard account.tokens <= maximumTokens else {
                    throw DatasetError(
                        .limit, file: path,
                        "has more than \(maximumTokens) tokens up to line \(line)")
                }
                if account.rows % 256 == 0 { try progress(done, file.byteCount) }
            }
        } catch is Enough {}
        return TrainingDataset(
            path: path, examples: examples,
            report: account.report(path: path, options: builder.options))
    }

    private static func example(
        _ bytes: UnsafeRawBufferPointer, line: Int, builder: ExampleBuilder,
        account: inout DatasetReport.Account
    ) throws(RefusedRow) -> TrainingExample {
        guard bytes.count <= TrainingFile.maximumLineBytes else {
            throw RefusedRow(
                .badLine,
                "has \(bytes.count) bytes, more than \(TrainingFile.maximumLineBytes)")
        }
        let value: JSONValue
        do throws(JSONError) { value = try JSONValue.parse(bytes) } catch {
            throw RefusedRow(.badLine, "is no JSON: column \(error.column): \(error.message)")
        }
        var unknown: [String] = []
        let row = try TrainingRowReader.read(value) { unknown.append($0) }
        // What is told of a row counts only once it is trained.
        var remarks = account.remarks
        let example = try builder.example(row, line: line, remarks: &remarks)
        account.remarks = remarks
        account.forms[TrainingRowReader.form(of: value) ?? "", default: 0] += 1
        for key in unknown { account.unknownKeys[key, default: (0, line)].count += 1 }
        if account.remarks.joinedBoundary {
            account.joinedBoundaries += 1
            account.remarks.joinedBoundary = false
        }
        return example
    }

    /// - Throws: `DatasetError.noLabels` with the first lines and reasons if there is nothing to learn.
    public func requireLabels() throws(DatasetError) {
        guard examples.isEmpty else { return }
        if report.rows == 0 { throw DatasetError(.noLabels, file: path, "holds no rows") }
        let shown = report.refused.prefix(3).map(\.description).joined(separator: "; ")
        let more = report.refused.count > 3 ? "; …" : ""
        throw DatasetError(
            .noLabels, file: path,
            "none of its \(report.rows) rows can be trained: \(shown)\(more)")
    }
}
