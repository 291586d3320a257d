import BrokerCore
import LinuxSystem
import WireProtocol

/// Removes what nothing needs any more, and never what something needs.
///
/// The store forgets first and the file goes after it, so a broker that dies between the two leaves a file that nothing
/// refers to; such files are looked for too.
extension EventLoop {
    private static let dayMilliseconds: Int64 = 86_400_000

    /// Every ten minutes, and soon after the start; not while a backup is copying.
    func collectGarbage() {
        guard core != nil, !isBackingUp else { return }
        pruneJobs()
        collectBlobs()
        collectFolders()
        let seconds = Int(moment.wall / 1_000)
        disk.add { [blobs] in try? blobs.removeStale(now: seconds) }
    }

    // MARK: Jobs

    /// Forgets jobs past their retention; their folders go once that is on disk.
    private func pruneJobs() {
        let horizon = moment.wall - Int64(configuration.retentionDays) * Self.dayMilliseconds
        let tombstones = moment.wall - Int64(configuration.retentionDays) * 2 * Self.dayMilliseconds
        store.prunableJobs(endedBefore: horizon, limit: 1_000) { [inbox] result in
            inbox.post { loop in
                guard case .success(let ended) = result, !ended.isEmpty, !loop.isBackingUp else {
                    return
                }
                let ids = ended.map(\.id)
                loop.step(.prune(ended, tombstonesBefore: tombstones))
                loop.batch.deferred.append(
                    .run { loop, isDurable in
                        guard isDurable else { return }
                        Failpoint.jobsPruned.reach()
                        for id in ids where loop.core?.job(id) == nil { loop.removeRun(id) }
                    })
            }
        }
    }

    private func removeRun(_ job: JobID) {
        let path = home.run(of: job.text)
        disk.add { try? DurableFile.removeTree(path) }
    }

    /// Folders of jobs, models and adapters that a broker left behind when it was killed.
    private func collectFolders() {
        offload(disk) { [home] in
            // Listed before the store is asked: a job's folder is made after its job is stored.
            ((try? FilePath.entries(of: home.runs)) ?? []).compactMap(JobID.init(text:))
        } then: { loop, jobs in
            for part in jobs.chunks(of: 10_000) {
                loop.store.unknownJobs(among: Array(part)) { [inbox = loop.inbox] result in
                    inbox.post { loop in
                        guard case .success(let unknown) = result, !loop.isBackingUp else {
                            return
                        }
                        for id in unknown where loop.core?.job(id) == nil { loop.removeRun(id) }
                    }
                }
            }
        }
        // Not soon after the start: the worker whose result is not taken in yet will send it again.
        if upkeepTurns > 600 { collectArtifacts() }
    }

    /// Folders of artifacts that were moved into place by a broker that was killed before it had registered them, and that no
    /// worker has claimed for a day.
    func collectArtifacts() {
        guard let core else { return }
        let used = Set(
            core.artifacts(type: nil, prefix: nil, after: nil, limit: Int.max).map(\.path))
        let yesterday = Int((moment.wall - Self.dayMilliseconds) / 1_000)
        for parent in [home.models, home.adapters] {
            for name in (try? FilePath.entries(of: parent)) ?? [] {
                let path = "\(parent)/\(name)"
                guard let digest = Digest(text: "sha256:\(name)"), !used.contains(path),
                    installing[digest] == nil, let times = FilePath.times(of: path),
                    times.changed < yesterday
                else { continue }
                log.info("removing \(path), which nothing is registered for")
                disk.add { try? DurableFile.removeTree(path) }
            }
        }
    }

    // MARK: Blobs

    /// Looks for blobs of yesterday and before that no job names: those the store knows, and files that it does not know.
    private func collectBlobs() {
        let yesterday = moment.wall - Self.dayMilliseconds
        store.unreferencedBlobs(storedBefore: yesterday, limit: 1_000) { [inbox] result in
            inbox.post { loop in
                if case .success(let digests) = result { loop.condemn(digests) }
            }
        }
        offload(disk) { [blobs] in
            (try? blobs.written(before: Int(yesterday / 1_000))) ?? []
        } then: { loop, files in
            for part in files.compactMap(Digest.init).chunks(of: 10_000) {
                loop.store.stillUnneeded(part, storedBefore: yesterday) { [inbox = loop.inbox] in
                    guard case .success(let digests) = $0 else { return }
                    inbox.post { $0.condemn(Array(digests.prefix(1_000))) }
                }
            }
        }
    }

    /// Begins to remove blobs. From now on whoever names one of them waits until it is gone or spared; what was taken in before
    /// is in the store by the time it is asked again.
    func condemn(_ digests: [Digest]) {
        let digests = digests.filter { !condemned.contains($0) }
        guard !digests.isEmpty, core != nil, !isBackingUp else { return }
        condemned.formUnion(digests)
        judge(digests, answeredUpTo: lastRequest)
    }

    private func judge(_ digests: [Digest], answeredUpTo last: UInt64) {
        batch.deferred.append(
            .run { loop, isDurable in
                guard isDurable else { return loop.spare(digests) }
                // Submissions that the core keeps while the store looks something up for them.
                if loop.requests.keys.contains(where: { $0.number <= last }) {
                    return loop.disk.add { [inbox = loop.inbox] in
                        inbox.post { $0.judge(digests, answeredUpTo: last) }
                    }
                }
                let yesterday = loop.moment.wall - Self.dayMilliseconds
                loop.store.stillUnneeded(digests, storedBefore: yesterday) { [inbox = loop.inbox] in
                    let unneeded = (try? $0.get()) ?? []
                    inbox.post { $0.remove(unneeded, sparing: digests) }
                }
            })
    }

    private func remove(_ unneeded: [Digest], sparing all: [Digest]) {
        let unneeded = core == nil ? [] : unneeded
        spare(all.filter { !Set(unneeded).contains($0) })
        guard !unneeded.isEmpty else { return }
        for digest in unneeded { batch.mutations.append(.deleteBlob(digest)) }
        batch.deferred.append(
            .run { loop, isDurable in
                guard isDurable else { return loop.spare(unneeded) }
                Failpoint.blobsForgotten.reach()
                loop.offload(loop.disk) { [blobs = loop.blobs] in
                    for digest in unneeded.compactMap(\.content) { try? blobs.remove(digest) }
                } then: { loop, _ in
                    loop.spare(unneeded)
                }
            })
    }

    /// Blobs may be named again: those that stay, and those that are gone and can be uploaded anew.
    private func spare(_ digests: [Digest]) {
        condemned.subtract(digests)
        guard condemned.isEmpty else { return }
        let waiting = waitingForRemoval
        waitingForRemoval = []
        for item in waiting { item(self) }
    }

    /// Whether a blob is being removed: then `next` is done once that is over.
    func waits(for digest: Digest, _ next: @escaping (EventLoop) -> Void) -> Bool {
        guard condemned.contains(digest) else { return false }
        waitingForRemoval.append(next)
        return true
    }
}
