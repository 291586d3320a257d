import LoraqClient
import WireProtocol

/// `A` where just one model has an adapter of that name.
enum AdapterName {
    static func resolve(_ text: String, _ session: Session) throws -> String {
        try NameCheck.checkReference(text, what: "the adapter")
        if text.contains(":") { return text }
        let all = try session.client.artifacts(type: "adapter")
        return try choose(text, among: all.compactMap { $0["name"]?.string })
    }

    /// - Parameters:
    ///   - text: `A`, `A@3` or `A#tag`.
    ///   - names: All adapters, as `M:A`.
    static func choose(_ text: String, among names: [String]) throws(ToolError) -> String {
        let end = text.firstIndex { $0 == "@" || $0 == "#" } ?? text.endIndex
        let bare = String(text[..<end])
        let matches = Set(names.filter { $0.hasSuffix(":" + bare) }).sorted()
        switch matches.count {
        case 1: return matches[0] + text[end...]
        case 0:
            let known = Set(names.compactMap { $0.split(separator: ":").last.map(String.init) })
            let likely = Suggestion.nearest(to: bare, among: known)
            throw ArtifactText.missing(
                bare, "adapter", likely.map { "; did you mean `\($0)`?" } ?? "")
        default:
            let message =
                "several models have an adapter `\(bare)`: " + matches.joined(separator: ", ")
            throw ToolError(
                .usage, message, hint: "name the model too",
                answer: ErrorObject(.ambiguous, .user, message))
        }
    }
}
