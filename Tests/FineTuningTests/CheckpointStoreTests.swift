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

    @Test(
        "KINDS 8: damage to any file of the newest checkpoint leaves the one before usable, and is told",
        arguments: ["state.json", "adapter_model.safetensors", "optimizer.safetensors"])
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
                #expect(summary?.resumedFromStep == 3, "\(name) \(damage)")
                #expect(summary?.warnings.first?.contains("step-00000004") == true)
            }
        }
    }

    /// Any one digit of the position or of a number: no damage goes unseen.
    @Test("KINDS 8: the state's own numbers are covered by a digest")
    func everyChangedDigitOfTheStateIsSeen() throws {
        try withTemporaryFolder { folder in
            let run = try stopped(in: folder, after: 2)
            let path = folder + "/checkpoints/step-00000002/state.json"
            let whole = try FilePath.read(path)
            let store = CheckpointStore(folder: folder + "/checkpoints", adapterConfig: nil)
            func newest() throws -> (loaded: CheckpointStore.Loaded?, notes: [String]) {
                try store.newest(for: run.identity, tensors: run.model.trainedTensors)
            }
            let before = try #require(try newest().loaded?.state.json)
            let digits = whole.indices.filter {
                (UInt8(ascii: "1")...UInt8(ascii: "8")).contains(whole[$0])
            }
            #expect(digits.count > 100)
            for place in digits {
                var damaged = whole
                damaged[place] += 1
                try DurableFile.write(damaged, to: path)
                let found = try newest()
                // The last digit of a fraction may be beyond what a Double holds: then nothing has changed.
                if found.loaded?.state.json == before { continue }
                #expect(found.loaded?.state.step != 2 && found.notes.count == 1)
            }
        }
    }

    @Test("KINDS 8: leftovers of a killed write are removed")
    func leftoversOfAKilledWriteAreRemoved() throws {
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

    @Test("KINDS 8: a full disk leaves the checkpoint before") func fullDiskLeavesTheOneBefore()
        throws
    {
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
