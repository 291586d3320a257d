import BrokerCore
import CLinux

extension EventLoop {
    /// Once a second: bounds that are kept by looking, not by each action.
    func upkeep() {
        noteRefused()
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
}
