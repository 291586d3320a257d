import LinuxSystem
import Testing

@testable import Broker

@Suite struct ResultSegmentsTests {
    let folder: TemporaryFolder
    let home: BrokerHome

    init() throws {
        folder = try TemporaryFolder()
        home = BrokerHome(root: folder.path)
        try home.prepare()
    }

    private func append(
        _ allocator: inout SegmentAllocator, _ files: inout SegmentFiles, _ texts: [String],
        job: String = "j"
    ) throws -> [SegmentClaim] {
        let appends = texts.map { text in
            SegmentAppend(
                job: job, claim: allocator.claim(job: job, length: text.utf8.count + 1),
                bytes: bytes(text + "\n"))
        }
        try files.write(appends)
        return appends.map(\.claim)
    }

    @Test func linesComeBackInAnyOrder() throws {
        var allocator = SegmentAllocator(home: home)
        var files = SegmentFiles(home: home)
        let first = try append(&allocator, &files, ["{\"a\":1}", "{\"b\":22}"])
        let second = try append(&allocator, &files, ["{\"c\":333}"])
        #expect(
            first.map(\.segment) == [0, 0] && second[0].offset == first[1].offset + first[1].length)
        let directory = home.run(of: "j")
        let claims = first + second
        #expect(
            try SegmentReader.lines(claims, directory: directory)
                == bytes("{\"a\":1}\n{\"b\":22}\n{\"c\":333}\n"))
        #expect(
            try SegmentReader.lines([claims[2], claims[0]], directory: directory)
                == bytes("{\"c\":333}\n{\"a\":1}\n"))
    }

    @Test func anUnclaimedTailDoesNoHarm() throws {
        var allocator = SegmentAllocator(home: home)
        var files = SegmentFiles(home: home)
        let kept = try append(&allocator, &files, ["{\"kept\":1}"])
        // Written, but the commit that would have claimed it never came.
        _ = try append(&allocator, &files, ["{\"lost\":1}", "{\"lo"])
        // A new broker: it knows nothing of positions.
        var after = SegmentAllocator(home: home)
        var afterFiles = SegmentFiles(home: home)
        let next = try append(&after, &afterFiles, ["{\"next\":1}"])
        #expect(next[0].segment == 1 && next[0].offset == 0)
        #expect(
            try SegmentReader.lines(kept + next, directory: home.run(of: "j"))
                == bytes("{\"kept\":1}\n{\"next\":1}\n"))
    }

    @Test func aFailedCommitBeginsANewSegment() throws {
        var allocator = SegmentAllocator(home: home)
        var files = SegmentFiles(home: home)
        _ = try append(&allocator, &files, ["x"])
        allocator.forgetAll()
        #expect(allocator.claim(job: "j", length: 2).segment == 1)
    }

    @Test func segmentsAreBounded() throws {
        var allocator = SegmentAllocator(home: home, maximumSegmentBytes: 100)
        let claims = (0..<5).map { _ in allocator.claim(job: "j", length: 40) }
        #expect(claims.map(\.segment) == [0, 0, 1, 1, 2])
        #expect(claims.map(\.offset) == [0, 40, 0, 40, 0])
        // A line over the bound gets a segment of its own.
        #expect(allocator.claim(job: "k", length: 500).offset == 0)
    }

    @Test func aShortenedSegmentIsAnErrorAndNotLessText() throws {
        var allocator = SegmentAllocator(home: home)
        var files = SegmentFiles(home: home)
        let claims = try append(&allocator, &files, ["{\"a\":1}"])
        let path = ResultSegment.path(home.run(of: "j"), 0)
        try DataFile(path: path, .writing).truncate(to: 3)
        #expect(throws: SystemError.self) {
            try SegmentReader.lines(claims, directory: home.run(of: "j"))
        }
    }

    @Test func fileNamesCarryTheirNumber() {
        #expect(ResultSegment.path("/r", 7) == "/r/results-007.jsonl")
        #expect(ResultSegment.path("/r", 1_234) == "/r/results-1234.jsonl")
        #expect(ResultSegment.number(ofFile: "results-1234.jsonl") == 1_234)
        #expect(ResultSegment.number(ofFile: "attempt-1.log") == nil)
    }
}
