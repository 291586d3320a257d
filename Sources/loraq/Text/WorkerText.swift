import JSONModel

/// Workers in words.
enum WorkerText {
    static func text(_ header: JSONValue, style: TextStyle, width: Int?) -> String {
        let workers = header["workers"]?.array ?? []
        var table = TextTable([
            ("WORKER", .left), ("STATE", .left), ("PID", .right), ("HELD", .right),
            ("MEMORY", .right), ("RESTARTS", .right), ("NUMERICS", .left), ("LAST EXIT", .left),
        ])
        for worker in workers {
            table.add([
                worker["instance"]?.string ?? "?", worker["state"]?.string ?? "?",
                worker["pid"]?.integer.map { "\($0)" } ?? "",
                worker["held"]?.integer.map(HumanText.count) ?? "",
                worker["rss_bytes"]?.integer.map(HumanText.bytes) ?? "",
                worker["restarts"]?.integer.map(HumanText.count) ?? "",
                worker["numerics"]?.string ?? "", worker["last_exit"]?.string ?? "",
            ])
        }
        var text = table.isEmpty ? "no workers\n" : table.rendered(style: style, width: width)
        for plugin in header["plugins"]?.array ?? [] {
            let name = TextTable.oneLine(plugin["name"]?.string ?? "?")
            if let message = plugin["error"]?["message"]?.string {
                text += "\nplugin \(name) cannot be used: \(TextTable.oneLine(message))\n"
            } else if plugin["instances"]?.integer == 0 {
                text += "\nplugin \(name) has no instances (loraq workers scale \(name) 1)\n"
            }
        }
        return text
    }
}
