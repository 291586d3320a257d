import Glibc
import LinuxSystem

/// The broker's folder and where everything lies in it.
struct BrokerHome: Sendable {
    let root: String

    init(root: String) { self.root = FilePath.absolute(root) }

    var database: String { "\(root)/jobs.sqlite" }
    var blobs: String { "\(root)/blobs" }
    var models: String { "\(root)/models" }
    var adapters: String { "\(root)/adapters" }
    var runs: String { "\(root)/runs" }
    var logs: String { "\(root)/logs" }
    var workers: String { "\(root)/workers" }
    var keys: String { "\(root)/keys" }
    /// Held while a broker runs. Beside the store that it guards, not in `run`: that folder may be removed at any time.
    var lock: String { "\(database).lock" }
    /// The sockets; made again when they are removed.
    var run: String { "\(root)/run" }

    /// Job ids are checked before they come here, so a name never leaves the folder.
    func run(of job: String) -> String { "\(runs)/\(job)" }
    func work(of job: String) -> String { "\(runs)/\(job)/work" }
    func workerLog(_ instance: String) -> String { "\(logs)/\(instance).log" }

    /// Where an artifact's folder lies now. Its stored path names the home in which it was made, which may have been moved,
    /// restored from a copy, or be spelled differently since; the folder's own name, a digest, stays.
    func current(artifact path: String) -> String {
        let name = FilePath.name(of: path)
        guard name.utf8.count == 64 else { return path }
        switch FilePath.name(of: FilePath.parent(of: path)) {
        case "models": return "\(models)/\(name)"
        case "adapters": return "\(adapters)/\(name)"
        default: return path
        }
    }

    static let sockets = ["control", "dispatch", "results", "events"]
    func endpoint(_ name: String) -> String { "ipc://\(run)/\(name)" }

    /// Makes the folders that are missing. `run` holds the sockets and belongs to the owner alone.
    func prepare() throws(SystemError) {
        for path in [root, blobs, models, adapters, runs, logs, workers, run] {
            try DurableFile.createDirectories(path, mode: 0o700)
        }
        // Whoever may connect may do everything, so this one is closed whatever it was before.
        guard chmod(run, 0o700) == 0 else {
            throw SystemError(operation: "close to others", path: run, code: errno)
        }
    }
}
