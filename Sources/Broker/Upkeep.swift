import BrokerCore
import Glibc
import LinuxSystem

extension EventLoop {
    /// Once a second: bounds that are kept by looking, not by each action.
    func upkeep() {
        watchDescriptors()
        watchSockets()
        upkeepTurns += 1
        noteDrops()
        if upkeepTurns % 10 == 0 {
            supervisor.rotateLogs()
            // Where `loraq up` sends this process's own log.
            WorkerLog.rotate("\(home.logs)/loraqd.log")
        }
        if upkeepTurns % 600 == 1 { prune() }
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

    /// libzmq aborts when a connection comes in and no descriptor is left, so near the limit the
    /// broker stops listening until some are free again.
    private func watchDescriptors() {
        guard let used = try? FilePath.entries(of: "/proc/self/fd").count else { return }
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        let free = Int(clamping: limit.rlim_cur) - used
        if acceptsPeers, free < 64 {
            log.error("\(used) files and sockets are open, few are left; refusing new connections")
            try? control.unbind(home.endpoint("control"))
            acceptsPeers = false
        } else if !acceptsPeers, free > 128 {
            do {
                try control.bind(home.endpoint("control"))
                acceptsPeers = true
                log.notice("taking connections again")
            } catch {
                log.error("\(error)")
            }
        }
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
            if name == "control", !acceptsPeers { continue }
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

    /// Forgets jobs past their retention, and blobs that nothing needs.
    private func prune() {
        guard core != nil else { return }
        let day: Int64 = 86_400_000
        let horizon = moment.wall - Int64(configuration.retentionDays) * day
        let tombstones = moment.wall - Int64(configuration.retentionDays) * 2 * day
        store.prunableJobs(endedBefore: horizon, limit: 1_000) { [inbox] result in
            inbox.post { loop in
                guard case .success(let ended) = result, !ended.isEmpty else { return }
                let ids = ended.map(\.id)
                loop.step(.prune(ended, tombstonesBefore: tombstones))
                loop.batch.deferred.append(
                    .run { loop, isDurable in
                        if isDurable { for id in ids { loop.removeRun(id) } }
                    })
            }
        }
        collectBlobs(storedBefore: moment.wall - day)
        let seconds = Int(moment.wall / 1_000)
        disk.add { [blobs] in try? blobs.removeStale(now: seconds) }
    }

    private func removeRun(_ job: JobID) {
        guard core?.job(job) == nil else { return }
        let path = home.run(of: job.text)
        disk.add { try? DurableFile.removeTree(path) }
    }
}
