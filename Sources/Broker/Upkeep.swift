import BrokerCore
import CLinux
import Glibc

extension EventLoop {
    /// Once a second: bounds that are kept by looking, not by each action.
    func upkeep() {
        noteRefused()
        watchSockets()
        upkeepTurns += 1
        noteDrops()
        pipeline.settle()
        if upkeepTurns % 10 == 0 {
            supervisor.rotateLogs()
            // Where `loraq up` sends this process's own log.
            WorkerLog.rotate("\(home.logs)/loraqd.log")
        }
        if upkeepTurns % 600 == 1 { collectGarbage() }
    }

    /// What was not sent is not lost (it can be asked for again), but it is told.
    private func noteDrops() {
        if outgoing.overflows > notedOverflows {
            log.warning(
                "\(outgoing.overflows - notedOverflows) messages dropped for peers that do not read"
            )
            notedOverflows = outgoing.overflows
        }
    }

    /// Connections that were hung up since hardly a descriptor was left (CLinux sees to that); what runs goes on.
    private func noteRefused() {
        let refused = Int(clamping: clinux_refused_connections())
        guard refused > notedRefused else { return }
        log.error(
            "\(refused - notedRefused) connections refused: hardly a file descriptor is left; raise the limit (ulimit -n)"
        )
        notedRefused = refused
    }

    /// Binds sockets again whose files somebody removed (`run` looks disposable, and cleaners of temporary folders go by
    /// age): connections that are open stay, new ones find the broker. A broker whose store is gone ends.
    private func watchSockets() {
        guard !Self.isGone(home.database) else {
            if case .running = stopPhase {
                log.critical("\(home.database) was removed or moved: the broker ends")
                beginStop()
            }
            return
        }
        for name in BrokerHome.sockets where Self.isGone("\(home.run)/\(name)") {
            do {
                try home.prepare()
                switch name {
                case "control": try control.bind(home.endpoint(name))
                case "dispatch": try dispatch.bind(home.endpoint(name))
                case "results": try results.bind(home.endpoint(name))
                default: try events.bind(home.endpoint(name))
                }
                log.warning("\(home.run)/\(name) was removed: made it again")
            } catch {
                log.error("\(home.run)/\(name) was removed: \(error)")
            }
        }
    }

    /// Certainly not there: a disk that does not answer just now is no reason to end.
    private static func isGone(_ path: String) -> Bool {
        access(path, F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR)
    }
}
