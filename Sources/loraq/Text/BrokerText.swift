import JSONModel
import LoraqClient

/// The broker in words.
enum BrokerText {
    static func presence(_ ping: JSONValue, _ home: LoraqHome, roundTrip: Duration) -> String {
        let version = ping["broker_version"]?.string ?? "?"
        let uptime = HumanText.span(milliseconds: ping["uptime_ms"]?.integer ?? 0)
        let milliseconds = HumanText.fixed(roundTrip / .milliseconds(1), digits: 1)
        return "broker \(version) at \(home.path), up \(uptime), answered in \(milliseconds) ms; "
            + jobs(ping["jobs"])
    }

    /// Counts by state: `2 running, 5 queued`.
    static func jobs(_ counts: JSONValue?) -> String {
        let parts = (counts?.object?.entries ?? []).compactMap { entry -> String? in
            guard let count = entry.value.integer, count > 0 else { return nil }
            return "\(HumanText.count(count)) \(entry.key)"
        }
        return parts.isEmpty ? "no jobs" : "jobs: " + parts.joined(separator: ", ")
    }
}
