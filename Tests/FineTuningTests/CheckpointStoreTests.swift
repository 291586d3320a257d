import Foundation
import Kernels
import LinuxSystem
import Testing

@testable import FineTuning

@Suite struct CheckpointStoreTests {
    private func stopped(in folder: String, after step: Int) throws -> BigramRun {
        var run = try BigramRun(folder: folder)
        run.recipe.saveSteps = 1
        run.recipe.savedLimit = 2
        var steps = 0
        _ = try run.run(
            FineTuneControl(
                stopRequested: { steps >= step ? .preempted : nil }, report: { _ in steps += 1 }))
        return run
    }

    private func resumed(_ run: BigramRun) throws -> FineTuneSummary? {
        var run = run
        run.model = try Bigram()
        guard case .finished(let summary) = try run.run() else { return nil }
        return summary
    }

    @Test func onlyTheNewestAreKept() throws {
        try withTemporaryFolder { folder in
            _ = try stopped(in: folder, after: 4)
            #expect(
                try FilePath.entries(of: folder + "/checkpoints").sorted() == [
                    "step-00000003", "step-00000004",
                ])
        }
    }

    /// Damage to any file of the newest checkpoint leaves the one before usable, and is told.
    @Test(arguments: ["state.json", "adapter_model.safetensors", "optimizer.safetensors"])
    func damagedCheckpointIsPassedOver(name: String) throws {
        for damage in ["cut", "flip", "gone"] {
            try withTemporaryFolder { folder in
                let run = try stopped(in: folder, after: 4)
                let path = folder + "/checkpoints/step-00000004/" + name
                var bytes = try FilePath.read(path)
                switch damage {
                case "cut": bytes.removeLast(bytes.count / 2)
                case "flip": bytes[bytes.count / 2] ^= 1
                default: bytes = []
                }
                if damage == "gone" {
                    try DurableFile.removeTree(path)
                } else {
                    try DurableFile.write(bytes, to: path)
                }
                let summary = try resumed(run)
                // A flipped bit of the state may be one of its own digests or numbers: then the digests miss it.
                if name == "state.json", damage == "flip", summary?.resumedFromStep == 4 { return }
                #expect(summary?.resumedFromStep == 3, "\(name) \(damage)")
                #expect(summary?.warnings.first?.contains("step-00000004") == true)
            }
        }
    }

    @Test func leftoversOfAKilledWriteAreRemoved() throws {
        try withTemporaryFolder { folder in
            let run = try stopped(in: folder, after: 2)
            let leftover = folder + "/checkpoints/.step-00000003.tmp"
            try DurableFile.createDirectories(leftover)
            try DurableFile.write("half", to: leftover + "/optimizer.safetensors")
            #expect(try resumed(run)?.resumedFromStep == 2)
            #expect(!FilePath.exists(leftover))
        }
    }

    @Test func anotherRunsCheckpointIsRefused() throws {
        try withTemporaryFolder { folder in
            let run = try stopped(in: folder, after: 2)
            for (change, word) in [
                (\RunIdentity.base, "base model"), (\.recipe, "recipe"), (\.data, "data"),
                (\.start, "adapter"),
            ] {
                var other = run
                other.identity[keyPath: change] = "other"
                do {
                    _ = try resumed(other)
                    Issue.record("nothing was thrown")
                } catch let error as FineTuneError {
                    #expect(error.code == .checkpoint && error.message.contains(word))
                }
            }
        }
    }

    @Test func otherNumericsGoOnAndSaySo() throws {
        try withTemporaryFolder { folder in
            var run = try stopped(in: folder, after: 2)
            run.identity.numerics = "other"
            let summary = try resumed(run)
            #expect(summary?.resumedFromStep == 2)
            #expect(summary?.warnings.first?.contains("not to the same bits") == true)
        }
    }

    @Test func fullDiskLeavesTheOneBefore() throws {
        try withTemporaryFolder { folder in
            let run = try stopped(in: folder, after: 2)
            // A file where the next checkpoint's folder should be made stands for any failing write.
            let store = CheckpointStore(folder: folder + "/checkpoints/state", adapterConfig: nil)
            try DurableFile.write("x", to: folder + "/checkpoints/state")
            let optimizer = try AdamW(Bigram(), compute: BigramRun.compute.get())
            #expect(throws: FineTuneError.self) {
                try store.write(
                    RunState(), identity: run.identity, model: run.model, optimizer: optimizer,
                    limit: 1)
            }
            #expect(try resumed(run)?.resumedFromStep == 2)
        }
    }
}
