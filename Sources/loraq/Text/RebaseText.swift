import JSONModel
import LoraqClient

/// What a rebase came to: a row an adapter.
enum RebaseText {
    static func table(
        _ rows: [(adapter: String, job: JobSnapshot)], style: TextStyle, width: Int?
    ) -> String {
        guard !rows.isEmpty else { return "" }
        var table = TextTable([
            ("ADAPTER", .left), ("OLD LOSS", .right), ("UNCHANGED", .right),
            ("TRAINED ANEW", .right), ("ROWS", .right), ("NOW", .left),
        ])
        for (adapter, job) in rows {
            let result = job.result
            func loss(_ key: String) -> String {
                result?["loss"]?[key]?.double.map { HumanText.fixed($0, digits: 4) } ?? "-"
            }
            table.add([
                TextTable.oneLine(adapter), loss("old"), loss("carried"), loss("retrained"),
                result?["rows"]?.integer.map(HumanText.count) ?? "-", end(of: job),
            ])
        }
        return table.rendered(style: style, width: width)
    }

    private static func end(of job: JobSnapshot) -> String {
        if let error = job.error {
            return "\(job.state): \(error.code): \(TextTable.oneLine(error.message))"
        }
        guard job.state == "succeeded" else { return job.state }
        let product = TextTable.oneLine(job.result?["product"]?["name"]?.string ?? "?")
        switch job.result?["decision"]?.string {
        case "carried": return "\(product), unchanged"
        case "retrained": return "\(product), trained anew"
        case "kept": return "not moved: it would be worse"
        default: return "-"
        }
    }
}
