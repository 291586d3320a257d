import BrokerCore
import Glibc
import LinuxSystem
import Synchronization
import WireProtocol

/// A backup that is being made or was made last: how far it is.
final class BackupControl: Sendable {
    struct State {
        var files = 0
        var bytes = 0
        /// Nil: it is under way.
        var outcome: Result<Void, ErrorObject>?
    }

    let id: WireName
    let path: String
    let state = Mutex(State())

    init(id: WireName, path: String) {
        self.id = id
        self.path = path
    }

    var isUnderWay: Bool { state.withLock { $0.outcome == nil } }

    func count(bytes: Int) {
        state.withLock {
            $0.files += 1
            $0.bytes += bytes
        }
    }
}

/// `BACKUP`: first a copy of the store, then of every file that it may name. Files are only added meanwhile, never removed,
/// and what the store claims of a result segment was on the disk before it was claimed; so the copy is whole.
extension EventLoop {
    func startBackup(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(BackupRequest.self)
        if let known = backup, known.id == header.backup { return report(known, request) }
        if backup?.isUnderWay == true {
            throw ErrorObject(
                .limit, .retryable, "another backup is being made", retryAfterMs: 5_000)
        }
        let path = try checkedTarget(header.path)
        let control = BackupControl(id: header.backup, path: path)
        backup = control
        // What is being removed just now is let go first.
        if condemned.isEmpty {
            copyStore(control)
        } else {
            waitingForRemoval.append { $0.copyStore(control) }
        }
        report(control, request)
    }

    private func report(_ control: BackupControl, _ request: PendingRequest) {
        let state = control.state.withLock { $0 }
        if case .failure(let error) = state.outcome { return fail(request, error) }
        reply(
            request,
            BackupReply(
                path: control.path, complete: state.outcome != nil, files: state.files,
                bytes: state.bytes))
    }

    private func checkedTarget(_ text: String) throws(ErrorObject) -> String {
        guard text.hasPrefix("/") else {
            throw ErrorObject(.badHeader, .user, "`path` must be absolute")
        }
        let path = FilePath.absolute(text)
        guard path != home.root, !path.hasPrefix(home.root + "/") else {
            throw ErrorObject(.badHeader, .user, "a backup cannot lie inside \(home.root)")
        }
        do {
            try DurableFile.createDirectories(path, mode: 0o700)
            guard try FilePath.entries(of: path).isEmpty else {
                throw ErrorObject(
                    .badHeader, .user, "\(path) is not empty", hint: "name a new folder")
            }
        } catch let error as ErrorObject {
            throw error
        } catch {
            throw Self.errorObject(of: error)
        }
        return path
    }

    private func copyStore(_ control: BackupControl) {
        store.copy(to: "\(control.path)/jobs.sqlite") { [inbox] result in
            inbox.post { loop in
                switch result {
                case .success: loop.copyFiles(control)
                case .failure(let error):
                    loop.ended(
                        control, .failure(ErrorObject(.internalError, .internal, "\(error)")))
                }
            }
        }
    }

    private func copyFiles(_ control: BackupControl) {
        let home = self.home
        offload(copier) {
            Result { () throws(ErrorObject) in try BackupCopier(home: home, control: control).run()
            }
        } then: { loop, result in
            loop.ended(control, result)
        }
    }

    private func ended(_ control: BackupControl, _ result: Result<Void, ErrorObject>) {
        control.state.withLock { $0.outcome = result }
        switch result {
        case .success: log.notice("backup at \(control.path) is complete")
        case .failure(let error): log.error("backup at \(control.path): \(error)")
        }
        let removed = removedDuringBackup
        removedDuringBackup = []
        delete(removed)
    }

    var isBackingUp: Bool { backup?.isUnderWay == true }
}

/// Copies the home's files, off the loop.
private struct BackupCopier {
    let home: BrokerHome
    let control: BackupControl

    /// Not `run` (sockets, lock), not `logs`, not the store, which is there already.
    private static let folders = ["blobs", "models", "adapters", "runs", "workers", "keys"]

    func run() throws(ErrorObject) {
        do throws(SystemError) {
            for name in Self.folders where FilePath.isDirectory("\(home.root)/\(name)") {
                try copy("\(home.root)/\(name)", to: "\(control.path)/\(name)")
            }
            let size = try FilePath.size(of: "\(control.path)/jobs.sqlite")
            control.count(bytes: size)
            // One sync for all of them, instead of one each.
            try DurableFile.syncFileSystem(of: control.path)
        } catch {
            throw BlobStore.wireError(error)
        }
    }

    private func copy(_ source: String, to target: String) throws(SystemError) {
        guard mkdir(target, 0o700) == 0 else {
            throw SystemError(operation: "make", path: target, code: errno)
        }
        for name in try FilePath.entries(of: source) where name != ".partial" {
            let from = "\(source)/\(name)"
            do throws(SystemError) {
                switch FilePath.kind(of: from) {
                case .folder?: try copy(from, to: "\(target)/\(name)")
                case .file?:
                    control.count(bytes: try DurableFile.duplicate(from, to: "\(target)/\(name)"))
                default: continue
                }
            } catch {
                // Workers rename and remove files of their own (checkpoints) in `runs/<job>/work`.
                guard error.code == ENOENT, error.path == from else { throw error }
            }
        }
    }
}
