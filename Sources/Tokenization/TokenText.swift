/// A token as answers with log probabilities and checks of data show it.
///
/// `bytes` are what the token adds in the middle of a text; `text` is the same as text, with `\xNN` for bytes that
/// are only parts of characters, as OpenAI writes them.
public struct TokenText: Sendable, Equatable {
    public let bytes: [UInt8]
    public let text: String
    /// Whether `text` shows single bytes.
    public let isPartial: Bool

    public init(_ token: Int32, _ tokenizer: Tokenizer) {
        self.init(bytes: tokenizer.bytes(ofToken: token))
    }

    init(bytes: [UInt8]) {
        self.bytes = bytes
        if let whole = String(validating: bytes, as: UTF8.self) {
            text = whole
            isPartial = false
            return
        }
        var shown = ""
        var rest = bytes[...]
        while let first = rest.first {
            let length =
                first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4
            if length > 0, let scalar = String(validating: rest.prefix(length), as: UTF8.self) {
                shown += scalar
                rest = rest.dropFirst(length)
            } else {
                let digits = String(first, radix: 16)
                shown += "\\x" + (digits.count < 2 ? "0" : "") + digits
                rest = rest.dropFirst()
            }
        }
        text = shown
        isPartial = true
    }

    /// As the older completions show it.
    public var completionText: String { isPartial ? "bytes:" + text : text }
}
