import BrokerCore
import LinuxSystem
import Testing

@testable import Broker
@testable import JobStore

/// All that a splitter told of a file.
private struct Told {
    var lines = 0
    var failure: BrokerError?
    var blocks: [LineBlock] = []
    var badLines: [BadLine] = []
    var references: [String] = []
    var messages: [Int: String] {
        Dictionary(uniqueKeysWithValues: badLines.map { (Int($0.number), $0.error.message) })
    }
}

@Suite struct BatchSplitterTests {
    let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private let known: Set<String> = ["m", "m:a", "m:b@2"]

    private func rules(isInference: Bool = true, defaultModel: String? = nil) -> LineRules {
        let known = known
        return LineRules(
            isInference: isInference,
            defaultModel: defaultModel.flatMap { Wire.ArtifactReference(text: $0) },
            refusal: { reference in
                known.contains(reference)
                    ? nil
                    : BrokerError(.unknownArtifact, .user, "`\(reference)` is not registered")
            })
    }

    private func split(
        _ content: String, rules: LineRules? = nil, maximumLines: Int = BatchSplitter.maximumLines
    ) throws -> Told {
        try split(bytes(content), rules: rules, maximumLines: maximumLines)
    }

    private func split(
        _ content: [UInt8], rules: LineRules? = nil, maximumLines: Int = BatchSplitter.maximumLines
    ) throws -> Told {
        let path = "\(folder.path)/lines.jsonl"
        try DurableFile.write(content, to: path)
        var told = Told()
        let splitter = BatchSplitter(blobPath: path, rules: rules ?? self.rules())
        let outcome = splitter.run(maximumLines: maximumLines) { part in
            told.blocks += part.blocks
            told.badLines += part.badLines
            told.references += part.references
            return true
        }
        switch outcome {
        case .finished(let lines): told.lines = lines
        case .failed(let error): told.failure = error
        case .stopped: Issue.record("stopped unasked")
        }
        return told
    }

    private func line(_ id: String, _ model: String = "m") -> String {
        #"{"custom_id":"\#(id)","method":"POST","url":"/v1/completions","body":{"model":"\#(model)","prompt":"x"}}"#
    }

    @Test func goodLinesAreCountedAndBlankOnesAreNot() throws {
        let told = try split("\n\(line("a"))\n\n  \n\(line("b", "m:a"))\r\n\(line("c"))")
        #expect(told.lines == 3)
        #expect(told.badLines.isEmpty)
        #expect(told.references == ["m", "m:a"])
        #expect(told.blocks.count == 1)
        #expect(told.blocks[0].firstIndex == 0 && told.blocks[0].count == 3)
        #expect(told.blocks[0].offset == 1 && told.blocks[0].firstNumber == 2)
    }

    @Test func eachFaultIsOneErrorWithItsLine() throws {
        let long = line("long") + String(repeating: " ", count: LineScanner.maximumLineBytes)
        let content = [
            line("a"),  // 1
            "{not json",  // 2
            "[1]",  // 3
            line("a"),  // 4: the id again
            #"{"method":"POST","url":"/v1/completions","body":{"model":"m"}}"#,  // 5
            #"{"custom_id":7,"method":"POST","url":"/v1/completions","body":{"model":"m"}}"#,  // 6
            #"{"custom_id":"f","method":"GET","url":"/v1/completions","body":{"model":"m"}}"#,  // 7
            #"{"custom_id":"g","method":"POST","url":"/v2","body":{"model":"m"}}"#,  // 8
            #"{"custom_id":"h","method":"POST","url":"/v1/completions","body":null}"#,  // 9
            #"{"custom_id":"i","method":"POST","url":"/v1/completions","body":{}}"#,  // 10
            line("j", "unknown"),  // 11
            long,  // 12
            line("z"),  // 13
            "\u{1}",  // 14
        ].joined(separator: "\n")
        let told = try split(content)
        #expect(told.lines == 14)
        #expect(told.badLines.map(\.number) == Array(2...12) + [14])
        #expect(told.badLines.map(\.index) == Array(1...11) + [13])
        #expect(told.messages[4]?.contains("line 1") == true)
        #expect(told.badLines.first { $0.number == 4 }?.customID == "a")
        #expect(told.messages[5]?.contains("custom_id") == true)
        #expect(told.messages[8]?.contains("url") == true)
        #expect(told.messages[10]?.contains("body.model") == true)
        #expect(told.badLines.first { $0.number == 11 }?.error.code == .unknownArtifact)
        #expect(told.badLines.first { $0.number == 12 }?.error.code.rawValue == "TOO_LARGE")
        #expect(told.references == ["m"])
    }

    @Test func theJobsModelStandsInForAMissingOne() throws {
        let content = #"{"custom_id":"i","method":"POST","url":"/v1/completions","body":{}}"#
        let told = try split(content, rules: rules(defaultModel: "m:b@2"))
        #expect(told.badLines.isEmpty && told.references == ["m:b@2"])
    }

    @Test func linesOfOtherKindsNeedOnlyAnID() throws {
        let content = "{\"custom_id\":\"a\",\"x\":1}\n{\"x\":1}\n{\"custom_id\":\"a\"}"
        let told = try split(content, rules: rules(isInference: false))
        #expect(told.lines == 3 && told.badLines.map(\.number) == [2, 3])
    }

    @Test func aByteOrderMarkIsNoFault() throws {
        let told = try split([0xEF, 0xBB, 0xBF] + bytes(line("a")))
        #expect(told.lines == 1 && told.badLines.isEmpty)
    }

    @Test func badUTF8IsOneFault() throws {
        let told = try split(bytes(line("a") + "\n{\"custom_id\":\"") + [0xFF] + bytes("\"}"))
        #expect(told.badLines.map(\.number) == [2])
    }

    @Test func emptyFilesHaveNoLines() throws {
        #expect(try split("").lines == 0)
        #expect(try split("\n \n\t\n").lines == 0)
    }

    @Test func tooManyLinesAreRefused() throws {
        let told = try split("\(line("a"))\n\(line("b"))\n\(line("c"))", maximumLines: 2)
        #expect(told.failure?.code == .limit)
    }

    @Test func blocksLeadBackToTheirLines() throws {
        let count = 2_345
        let content = (0..<count).map { line("id-\($0)") }.joined(separator: "\n\n")
        let told = try split(content)
        #expect(told.lines == count)
        #expect(told.blocks.map(\.count) == [1_000, 1_000, 345])
        #expect(told.blocks.map(\.firstIndex) == [0, 1_000, 2_000])
        let loader = LineLoader(blobPath: "\(folder.path)/lines.jsonl", rules: rules())
        let wanted = [3, 999, 1_000, 1_998, 2_344]
        let pending = PendingLines(
            lines: wanted.map { PendingLine(index: $0, previousAttempts: $0 % 2) }, next: count,
            blocks: told.blocks)
        let lines = try loader.load(pending)
        #expect(lines.map(\.index) == wanted)
        #expect(lines.map(\.customID) == wanted.map { "id-\($0)" })
        #expect(lines.map { Int($0.location.number) } == wanted.map { 2 * $0 + 1 })
        #expect(lines.map(\.references) == wanted.map { _ in ["m"] })
        var caches = JobCaches()
        let id = try #require(JobID(text: "01890000-0000-7000-8000-000000000001"))
        for (index, loaded) in zip(wanted, lines) {
            let text = try caches.line(
                loaded.location, of: id, blobPath: "\(folder.path)/lines.jsonl")
            #expect(text == bytes(line("id-\(index)")))
        }
    }

    @Test func whoStopsItStopsIt() throws {
        let path = try folder.write(
            "many.jsonl", (0..<60_000).map { line("\($0)") }.joined(separator: "\n"))
        var parts = 0
        let outcome = BatchSplitter(blobPath: path, rules: rules()).run { _ in
            parts += 1
            return false
        }
        guard case .stopped = outcome else {
            Issue.record("went on: \(outcome)")
            return
        }
        #expect(parts == 1)
    }
}

@Suite struct IdentitySetTests {
    @Test func repeatedIDsAreFoundWhateverTheirNumber() {
        var set = IdentitySet()
        for number in 1...50_000 { #expect(set.insert("id-\(number)", line: number) == nil) }
        #expect(set.count == 50_000)
        #expect(set.insert("id-1", line: 60_000) == 1)
        #expect(set.insert("id-49999", line: 60_000) == 49_999)
        #expect(set.insert("", line: 60_001) == nil)
    }
}
