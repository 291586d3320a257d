import Synchronization
import WireProtocol
import ZeroMQ

/// What other threads tell the thread that owns the sockets.
enum Letter: Sendable {
    case ended(TaskState, TaskEnd)
    case putBack(TaskState, reason: String, retryAfter: Duration)
    case progress(TaskState, ProgressObject)
    case chunk(TaskState, text: String, tokenIndex: Int, choice: Int)
    case log(LogHeader.Level, String, TaskID?)
    case capacity(WireName, Int)
    case loaded([BlobDigest])
    /// SIGTERM, or the plugin's own wish: end what is held, take nothing new, go.
    case stop
}

/// The way from any thread to the one that owns the sockets.
///
/// Chunks and logs beyond a bound are dropped and counted; everything else is bounded by the
/// number of tasks that are held.
final class Mailbox: Sendable {
    private struct Content {
        var letters: [Letter] = []
        var lossy = 0
        var dropped = 0
    }

    static let maximumLossy = 4_096

    private let content = Mutex(Content())
    private let wakeup: Wakeup

    init(wakeup: Wakeup) { self.wakeup = wakeup }

    func post(_ letter: Letter) {
        let isFirst = content.withLock { content -> Bool in
            switch letter {
            case .chunk, .log, .progress:
                guard content.lossy < Self.maximumLossy else {
                    content.dropped += 1
                    return false
                }
                content.lossy += 1
            default: break
            }
            content.letters.append(letter)
            return content.letters.count == 1
        }
        if isFirst { wakeup.signal() }
    }

    /// All letters in order, and how many were dropped since the last call.
    func take() -> (letters: [Letter], dropped: Int) {
        content.withLock { content in
            let result = (content.letters, content.dropped)
            content.letters = []
            content.lossy = 0
            content.dropped = 0
            return result
        }
    }
}
