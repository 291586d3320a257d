import CPCRE2

/// A compiled regular expression over UTF-8 bytes (PCRE2 with JIT).
///
/// Classes such as `\s`, `\d`, `\w` and case folding follow Unicode. All offsets are byte offsets.
/// `\C` and callouts are refused. Immutable once compiled; a `PatternMatcher` holds what a match needs.
///
/// `@unchecked Sendable`: `pcre2_code` is never changed after `pcre2_jit_compile`, and PCRE2 allows
/// concurrent matches over one code with separate match data.
public final class Pattern: @unchecked Sendable {
    public struct Options: OptionSet, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        public static let caseInsensitive = Options(rawValue: 1)
        /// `^` and `$` match at line ends too.
        public static let multiline = Options(rawValue: 2)
        /// `.` matches a newline too.
        public static let dotMatchesNewline = Options(rawValue: 4)
    }

    /// Bounds on one match attempt.
    public struct Limits: Sendable {
        /// Backtracking steps.
        public var steps: UInt32 = 20_000_000
        /// Nested backtracking of the interpreter.
        public var depth: UInt32 = 250_000
        /// Heap of the interpreter, in KiB.
        public var heapKibibytes: UInt32 = 65_536
        /// Machine stack of the JIT code, in bytes.
        public var stackBytes: Int = 4 << 20
        public init() {}
    }

    /// The longest expression that is compiled, in bytes.
    public static let maximumLength = 65_536

    public let source: String
    public let limits: Limits
    let code: OpaquePointer
    let groupCount: Int

    /// - Throws: `PatternError.syntax` with the byte offset in `source`.
    public init(
        _ source: String, options: Options = [], limits: Limits = Limits()
    ) throws(PatternError) {
        var flags = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C
        if options.contains(.caseInsensitive) { flags |= PCRE2_CASELESS }
        if options.contains(.multiline) { flags |= PCRE2_MULTILINE }
        if options.contains(.dotMatchesNewline) { flags |= PCRE2_DOTALL }
        let bytes = Array(source.utf8)
        guard bytes.count <= Pattern.maximumLength else {
            throw PatternError(
                code: .limit, message: "longer than \(Pattern.maximumLength) bytes", pattern: source
            )
        }
        guard let context = pcre2_compile_context_create_8(nil) else {
            throw PatternError(code: .failed, message: "out of memory", pattern: source)
        }
        defer { pcre2_compile_context_free_8(context) }
        pcre2_set_newline_8(context, UInt32(PCRE2_NEWLINE_LF))
        pcre2_set_parens_nest_limit_8(context, 200)
        var errorCode: Int32 = 0
        var errorOffset = 0
        let compiled = bytes.withUnsafeBufferPointer { buffer in
            pcre2_compile_8(
                buffer.baseAddress ?? Pattern.emptyText, buffer.count, flags, &errorCode,
                &errorOffset, context)
        }
        guard let compiled else {
            throw PatternError(
                code: .syntax, message: Pattern.text(ofError: errorCode), pattern: source,
                offset: errorOffset)
        }
        // Without JIT (an unsupported machine) the interpreter does the same, only slower.
        _ = pcre2_jit_compile_8(compiled, PCRE2_JIT_COMPLETE)
        var groups: UInt32 = 0
        _ = pcre2_pattern_info_8(compiled, UInt32(PCRE2_INFO_CAPTURECOUNT), &groups)
        self.source = source
        self.limits = limits
        self.code = compiled
        self.groupCount = Int(groups)
    }

    deinit { pcre2_code_free_8(code) }

    /// One byte to point at when the text is empty (PCRE2 refuses a null pointer of some calls).
    nonisolated(unsafe) static let emptyText: UnsafePointer<UInt8> = {
        let byte = UnsafeMutablePointer<UInt8>.allocate(capacity: 1)
        byte.initialize(to: 0)
        return UnsafePointer(byte)
    }()

    static func text(ofError code: Int32) -> String {
        var buffer = [UInt8](repeating: 0, count: 256)
        let length = buffer.withUnsafeMutableBufferPointer { buffer in
            pcre2_get_error_message_8(code, buffer.baseAddress, buffer.count)
        }
        guard length > 0 else { return "PCRE2 error \(code)" }
        return String(decoding: buffer[..<Int(length)], as: UTF8.self)
    }
}
