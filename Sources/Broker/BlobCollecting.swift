import BrokerCore
import LinuxSystem
import WireProtocol

/// Removal of blobs that nothing needs, while uploads and submissions go on.
///
/// A round: what is asked for from its beginning on is noted; once everything before is on disk, the store is asked for
/// old blobs that no job refers to; those of them that were not noted meanwhile leave their place at once, on the loop's
/// own thread. So no submission that found its blob loses it, and one that comes later is told to upload.
struct BlobRound {
    /// Blobs that a `PUT` or a submission named since the round began.
    var used: Set<ContentDigest> = []
}

extension EventLoop {
    /// Blobs of one round; what is left waits for the next.
    private static let blobsPerRound = 1_000

    /// - Parameter wall: Only blobs stored or asked for before, in milliseconds since 1970.
    func collectBlobs(storedBefore wall: Int64) {
        guard core != nil, blobRound == nil else { return }
        blobRound = BlobRound()
        batch.deferred.append(
            .run { loop, isDurable in
                guard isDurable else {
                    loop.blobRound = nil
                    return
                }
                loop.store.unreferencedBlobs(storedBefore: wall, limit: Self.blobsPerRound) {
                    [inbox = loop.inbox] result in
                    inbox.post { loop in
                        loop.removeBlobs((try? result.get()) ?? [])
                        loop.blobRound = nil
                    }
                }
            })
    }

    func removeBlobs(_ digests: [Digest]) {
        guard core != nil, let round = blobRound else { return }
        for digest in digests {
            guard let content = digest.content, !round.used.contains(content) else { continue }
            do {
                let path = try blobs.withdraw(content)
                batch.mutations.append(.deleteBlob(digest))
                if let path { disk.add { try? DurableFile.removeTree(path) } }
            } catch {
                log.error("\(error)")
            }
        }
    }

    /// Records a blob, so that it is found again when nothing needs it any more; its age begins anew.
    func noteBlob(_ digest: ContentDigest, bytes: Int) {
        blobRound?.used.insert(digest)
        guard core != nil, let digest = Digest(digest) else { return }
        batch.mutations.append(.putBlob(digest, bytes: Int64(bytes), at: moment.wall))
    }

    /// What to tell of an upload: a blob that was there when the disk's thread looked may have been removed since.
    func noteUpload(_ digest: ContentDigest, _ progress: BlobProgress) -> BlobProgress {
        guard progress.complete else { return progress }
        guard blobs.size(of: digest) != nil else {
            return BlobProgress(received: 0, complete: false)
        }
        noteBlob(digest, bytes: progress.received)
        return progress
    }
}
