import WireProtocol

/// A name that a person gives: of one short alphabet, never a path.
enum NameCheck {
    static func check(_ name: String, what: String) throws(ToolError) {
        guard WireName(text: name) == nil else { return }
        throw ToolError.usage("\(what) must be \(WireName.form), not `\(TextTable.oneLine(name))`")
    }

    static func checkReference(_ text: String, what: String) throws(ToolError) {
        guard ArtifactReference(text: text) == nil else { return }
        throw ToolError.usage(
            "\(what) must be \(ArtifactReference.form), not `\(TextTable.oneLine(text))`")
    }
}
