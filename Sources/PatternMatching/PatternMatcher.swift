import CPCRE2

/// A match: the byte ranges of the whole and of each group (nil where a group took no part).
public struct PatternMatch: Sendable, Equatable {
    public let ranges: [Range<Int>?]
    public var range: Range<Int> { ranges.first.flatMap { $0 } ?? 0..<0 }
}

/// What one thread needs to match a `Pattern`: match data, limits and the JIT stack. Not `Sendable`.
public final class PatternMatcher {
    public enum Anchoring: Sendable {
        /// Anywhere, as Python's `re.search`.
        case anywhere
        /// At the start offset, as `re.match`.
        case start
        /// From the start offset to the end of the text, as `re.fullmatch`.
        case whole
    }

    public let pattern: Pattern
    private let data: OpaquePointer
    private let context: OpaquePointer
    private let stack: OpaquePointer?

    /// - Throws: `PatternError.failed` when memory is short.
    public init(_ pattern: Pattern) throws(PatternError) {
        guard let data = pcre2_match_data_create_from_pattern_8(pattern.code, nil) else {
            throw PatternError(code: .failed, message: "out of memory", pattern: pattern.source)
        }
        guard let context = pcre2_match_context_create_8(nil) else {
            pcre2_match_data_free_8(data)
            throw PatternError(code: .failed, message: "out of memory", pattern: pattern.source)
        }
        pcre2_set_match_limit_8(context, pattern.limits.steps)
        pcre2_set_depth_limit_8(context, pattern.limits.depth)
        pcre2_set_heap_limit_8(context, pattern.limits.heapKibibytes)
        let stack = pcre2_jit_stack_create_8(32 << 10, pattern.limits.stackBytes, nil)
        if let stack { pcre2_jit_stack_assign_8(context, nil, UnsafeMutableRawPointer(stack)) }
        self.pattern = pattern
        self.data = data
        self.context = context
        self.stack = stack
    }

    deinit {
        pcre2_match_data_free_8(data)
        pcre2_match_context_free_8(context)
        if let stack { pcre2_jit_stack_free_8(stack) }
    }

    /// Calls `body` with each match in turn, as Oniguruma's `find_iter` does: an empty match right
    /// after the match before is passed over.
    ///
    /// - Parameter text: bytes that must be valid UTF-8; checked once.
    /// - Throws: `PatternError.limit` when a match needs too much; `.notUTF8`.
    public func forEachMatch(
        in text: [UInt8], _ body: (Range<Int>) -> Void
    ) throws(PatternError) {
        guard isValidUTF8(text) else {
            throw PatternError(
                code: .notUTF8, message: "the text is not valid UTF-8", pattern: pattern.source)
        }
        try withBytes(of: text[...]) { base, count throws(PatternError) in
            try forEachValidMatch(base, count, body)
        }
    }

    /// As above over a Swift string, which is always valid UTF-8.
    public func forEachMatch(
        in text: String, _ body: (Range<Int>) -> Void
    ) throws(PatternError) {
        try withBytes(of: Array(text.utf8)[...]) { base, count throws(PatternError) in
            try forEachValidMatch(base, count, body)
        }
    }

    /// As above over a part of bytes that the caller knows to be valid UTF-8 (they came from a
    /// `String`); ranges count from the start of the part. Not checked: for hot loops only.
    public func forEachMatch(
        inValidUTF8 text: ArraySlice<UInt8>, _ body: (Range<Int>) -> Void
    ) throws(PatternError) {
        try withBytes(of: text) { base, count throws(PatternError) in
            try forEachValidMatch(base, count, body)
        }
    }

    /// The first match at or after `offset` (bytes), with its groups.
    public func match(
        _ text: String, from offset: Int = 0, anchoring: Anchoring = .anywhere
    ) throws(PatternError) -> PatternMatch? {
        let bytes = Array(text.utf8)
        guard offset >= 0, offset <= bytes.count else { return nil }
        var options: UInt32 = 0
        switch anchoring {
        case .anywhere: break
        case .start: options = PCRE2_ANCHORED
        case .whole: options = PCRE2_ANCHORED | PCRE2_ENDANCHORED
        }
        return try withBytes(of: bytes[...]) { base, count throws(PatternError) in
            // A start inside of a character would be undefined behavior without the check.
            guard try find(base, count, offset, options | PCRE2_NO_UTF_CHECK, bytes) else {
                return nil
            }
            let vector = pcre2_get_ovector_pointer_8(data)
            guard let vector else { return nil }
            var ranges: [Range<Int>?] = []
            for group in 0...pattern.groupCount {
                let (from, to) = (vector[2 * group], vector[2 * group + 1])
                ranges.append(from == Int.max || from == -1 || to < from ? nil : from..<to)
            }
            return PatternMatch(ranges: ranges)
        }
    }

    private func find(
        _ base: UnsafePointer<UInt8>, _ count: Int, _ offset: Int, _ options: UInt32,
        _ bytes: [UInt8]
    ) throws(PatternError) -> Bool {
        if offset < count, bytes[offset] & 0xC0 == 0x80 {
            throw PatternError(
                code: .notUTF8, message: "the start lies inside of a character",
                pattern: pattern.source, offset: offset)
        }
        return try run(base, count, offset, options)
    }

    private func forEachValidMatch(
        _ base: UnsafePointer<UInt8>, _ count: Int, _ body: (Range<Int>) -> Void
    ) throws(PatternError) {
        var offset = 0
        var lastEnd = -1
        guard let vector = pcre2_get_ovector_pointer_8(data) else { return }
        while offset <= count {
            guard try run(base, count, offset, PCRE2_NO_UTF_CHECK) else { return }
            let (from, to) = (Int(vector[0]), Int(vector[1]))
            if to <= from {
                // A look-behind with \K may give a match that ends before it starts; pass over it.
                if to == lastEnd || to < from {
                    offset = next(base, count, offset)
                    continue
                }
            }
            offset = to
            lastEnd = to
            body(from..<to)
        }
    }

    private func next(_ base: UnsafePointer<UInt8>, _ count: Int, _ offset: Int) -> Int {
        var next = offset + 1
        while next < count, base[next] & 0xC0 == 0x80 { next += 1 }
        return next
    }

    private func run(
        _ base: UnsafePointer<UInt8>, _ count: Int, _ offset: Int, _ options: UInt32
    ) throws(PatternError) -> Bool {
        var status = pcre2_match_8(pattern.code, base, count, offset, options, data, context)
        if status == PCRE2_ERROR_JIT_STACKLIMIT {
            status = pcre2_match_8(
                pattern.code, base, count, offset, options | PCRE2_NO_JIT, data, context)
        }
        if status >= 0 { return true }
        if status == PCRE2_ERROR_NOMATCH { return false }
        let overLimit = [
            PCRE2_ERROR_MATCHLIMIT, PCRE2_ERROR_DEPTHLIMIT, PCRE2_ERROR_HEAPLIMIT,
            PCRE2_ERROR_JIT_STACKLIMIT,
        ].contains(status)
        throw PatternError(
            code: overLimit ? .limit : .failed, message: Pattern.text(ofError: status),
            pattern: pattern.source, offset: offset)
    }

    private func withBytes<Result>(
        of text: ArraySlice<UInt8>,
        _ body: (UnsafePointer<UInt8>, Int) throws(PatternError) -> Result
    ) throws(PatternError) -> Result {
        try text.withUnsafeBufferPointer { buffer throws(PatternError) in
            try body(buffer.baseAddress ?? Pattern.emptyText, buffer.count)
        }
    }
}

private func isValidUTF8(_ bytes: [UInt8]) -> Bool {
    String(validating: bytes, as: UTF8.self) != nil
}
