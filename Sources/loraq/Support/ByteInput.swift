import Glibc

/// Bytes as they come from standard input, a pipe or a file; Ctrl-C ends the wait for them.
final class ByteInput {
    /// How it is called in messages.
    let name: String
    private let descriptor: Int32
    private let isOwned: Bool

    /// The longest a wait goes without looking for Ctrl-C, whoever's thread the signal went to.
    private static let sliceMs: Int32 = 200

    static var standard: ByteInput { ByteInput(name: "standard input", descriptor: STDIN_FILENO) }

    private init(name: String, descriptor: Int32) {
        self.name = name
        self.descriptor = descriptor
        isOwned = false
    }

    /// Opens a file, a FIFO or a pipe of the shell's (`<(…)`).
    ///
    /// - Parameter what: What the file is, for messages: "training file".
    init(_ path: String, what: String) throws(ToolError) {
        let name = "\(what) \(path)"
        // The open of a FIFO waits for a writer.
        var opened = open(path, O_RDONLY | O_CLOEXEC)
        while opened < 0 {
            try ByteInput.check(errno, name)
            opened = open(path, O_RDONLY | O_CLOEXEC)
        }
        self.name = name
        descriptor = opened
        isOwned = true
        // This description is ours alone. A pipe that nobody ever wrote to is never ready, yet at its end.
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
    }

    deinit { if isOwned { close(descriptor) } }

    /// The next bytes, 1 to `count`; empty at the end.
    ///
    /// - Throws: `.interrupted` after Ctrl-C; `.usage` with the system's reason.
    func read(atMost count: Int = 1 << 20) throws(ToolError) -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: count)
        while true {
            if Interrupts.isInterrupted { throw ToolError(.interrupted, "interrupted") }
            var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            let ready = poll(&entry, 1, ByteInput.sliceMs)
            if ready < 0 {
                try ByteInput.check(errno, name)
                continue
            }
            if ready == 0, !isOwned { continue }
            let got = Glibc.read(descriptor, &buffer, buffer.count)
            if got >= 0 {
                buffer.removeLast(buffer.count - got)
                return buffer
            }
            if errno != EAGAIN { try ByteInput.check(errno, name) }
        }
    }

    /// All that comes.
    ///
    /// - Throws: `.usage` for more than `limit` bytes, beside what `read` throws.
    func readAll(limit: Int) throws(ToolError) -> [UInt8] {
        var bytes: [UInt8] = []
        while true {
            let piece = try read(atMost: min(1 << 20, limit - bytes.count + 1))
            if piece.isEmpty { return bytes }
            bytes += piece
            guard bytes.count <= limit else {
                throw ToolError.usage(
                    "\(name) is larger than \(HumanText.bytes(limit)); is it the right one?")
            }
        }
    }

    /// Returns if a signal only broke the call off.
    private static func check(_ code: Int32, _ name: String) throws(ToolError) {
        guard code == EINTR else {
            throw ToolError.usage("\(name): \(ToolError.systemMessage(code))")
        }
        if Interrupts.isInterrupted { throw ToolError(.interrupted, "interrupted") }
    }
}

/// Lines of a `ByteInput`, without their ends.
struct LineInput {
    private let input: ByteInput
    private var rest: [UInt8] = []
    private var isAtEnd = false

    /// Longer lines are refused.
    static let maximumBytes = 4 << 20

    init(_ input: ByteInput) { self.input = input }

    /// The next line, or nil at the end.
    mutating func next() throws(ToolError) -> String? {
        while true {
            if let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                defer { rest.removeSubrange(...end) }
                return LineInput.text(rest[..<end])
            }
            if isAtEnd {
                defer { rest = [] }
                return rest.isEmpty ? nil : LineInput.text(rest[...])
            }
            guard rest.count <= LineInput.maximumBytes else {
                throw ToolError.usage(
                    "\(input.name): a line is longer than \(HumanText.bytes(LineInput.maximumBytes))"
                )
            }
            let piece = try input.read(atMost: 1 << 16)
            isAtEnd = piece.isEmpty
            rest += piece
        }
    }

    private static func text(_ line: ArraySlice<UInt8>) -> String {
        String(decoding: line.last == UInt8(ascii: "\r") ? line.dropLast() : line, as: UTF8.self)
    }
}
