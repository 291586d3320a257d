/// How a model or an adapter is named: `M`, `M:A`, `M@2`, `M:A@3`, `M#stable`, `M:A#stable`.
public struct ArtifactReference: WireText {
    public static let form =
        "an artifact reference such as `M`, `M:A`, `M:A@3` or `M:A#tag`, of names in A-Z a-z 0-9 . _ -"

    /// Which version of the named artifact is meant.
    public enum Selector: Hashable, Sendable {
        case newest
        /// From 1.
        case version(Int)
        case tag(WireName)
    }

    public var model: WireName
    /// Nil for the model itself.
    public var adapter: WireName?
    public var selector: Selector

    public init(model: WireName, adapter: WireName? = nil, selector: Selector = .newest) {
        self.model = model
        self.adapter = adapter
        self.selector = selector
    }

    public init?(text: String) {
        var rest = Substring(text)
        var selector = Selector.newest
        if let mark = rest.utf8.firstIndex(where: {
            $0 == UInt8(ascii: "@") || $0 == UInt8(ascii: "#")
        }) {
            let after = rest[rest.utf8.index(after: mark)...]
            if rest.utf8[mark] == UInt8(ascii: "@") {
                guard let version = Decimal.parse(after.utf8), version >= 1 else { return nil }
                selector = .version(version)
            } else {
                guard let tag = WireName(text: String(after)) else { return nil }
                selector = .tag(tag)
            }
            rest = rest[..<mark]
        }
        var adapter: WireName?
        if let colon = rest.utf8.firstIndex(of: UInt8(ascii: ":")) {
            adapter = WireName(text: String(rest[rest.utf8.index(after: colon)...]))
            if adapter == nil { return nil }
            rest = rest[..<colon]
        }
        guard let model = WireName(text: String(rest)) else { return nil }
        self.init(model: model, adapter: adapter, selector: selector)
    }

    /// The reference without version or tag: `M` or `M:A`.
    public var name: String {
        adapter.map { "\(model.text):\($0.text)" } ?? model.text
    }

    public var text: String {
        switch selector {
        case .newest: name
        case .version(let version): "\(name)@\(version)"
        case .tag(let tag): "\(name)#\(tag.text)"
        }
    }

    /// The base model that an adapter belongs to, or the model itself, in its newest version.
    public var base: ArtifactReference { ArtifactReference(model: model) }

    public func pinned(to version: Int) -> ArtifactReference {
        ArtifactReference(model: model, adapter: adapter, selector: .version(version))
    }
}
