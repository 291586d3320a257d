import JSONModel
import LinuxSystem
import Testing
import WireProtocol

@testable import LoraqClient

@Suite struct ResultStreamTests {
    @Test func pagesAreReadToTheEndAndLinesAreWhole() throws {
        let folder = try ShortFolder()
        let broker = try FakeBroker(home: folder.home) { request, _ in
            let page = request.header["after"]?.string.flatMap { Int($0) } ?? 0
            let text = page < 3 ? "{\"page\":\(page)}" + (page == 1 ? "" : "\n") : ""
            return [
                request.ok(
                    [
                        "count": .integer(page < 3 ? 1 : 0), "next": .string("\(page + 1)"),
                        "complete": .bool(page == 3),
                    ],
                    bodies: [Message.Body("lines", Array(text.utf8))])
            ]
        }
        defer { broker.stop() }
        let client = try BrokerClient(home: folder.home)
        var stream = ResultStream(client: client, job: "j", stream: .results, order: .input)
        var text: [UInt8] = []
        let (lines, isComplete) = try stream.readAll { text += $0.lines }
        #expect(
            String(decoding: text, as: UTF8.self) == "{\"page\":0}\n{\"page\":1}\n{\"page\":2}\n")
        #expect(lines == 3)
        #expect(isComplete)
        #expect(broker.requests.allSatisfy { $0.header["order"]?.string == "input" })
        #expect(broker.requests.map { $0.header["after"]?.string } == [nil, "1", "2", "3"])
    }

    @Test func aPageWithoutLinesThatLeadsOnIsNotTheEnd() throws {
        let folder = try ShortFolder()
        let broker = try FakeBroker(home: folder.home) { request, number in
            [
                request.ok(
                    [
                        "count": .integer(number == 3 ? 1 : 0), "next": .string("\(number)"),
                        "complete": .bool(number == 3),
                    ], bodies: number == 3 ? [Message.Body("lines", Array("{}\n".utf8))] : [])
            ]
        }
        defer { broker.stop() }
        let client = try BrokerClient(home: folder.home)
        var stream = ResultStream(client: client, job: "j", stream: .results, order: .input)
        let (lines, isComplete) = try stream.readAll { _ in }
        #expect(lines == 1)
        #expect(isComplete)
    }

    @Test func aRunningJobGivesWhatIsThere() throws {
        let folder = try ShortFolder()
        let broker = try FakeBroker(home: folder.home) { request, number in
            [
                request.ok(
                    [
                        "count": .integer(number == 1 ? 1 : 0), "next": "c",
                        "complete": false,
                    ], bodies: number == 1 ? [Message.Body("lines", Array("{}\n".utf8))] : [])
            ]
        }
        defer { broker.stop() }
        let client = try BrokerClient(home: folder.home)
        var stream = ResultStream(client: client, job: "j", stream: .all)
        let (lines, isComplete) = try stream.readAll { _ in }
        #expect(lines == 1)
        #expect(!isComplete)
    }
}

@Suite struct OutputFileTests {
    private func entries(_ folder: ShortFolder) throws -> [String] {
        try FilePath.entries(of: folder.path).filter { $0 != "run" }
    }

    private func text(_ path: String) throws -> String {
        String(decoding: try FilePath.read(path), as: UTF8.self)
    }

    @Test func theFileHasItsNameOnlyWhenItIsWhole() throws {
        let folder = try ShortFolder()
        let path = folder.path + "/out.jsonl"
        let file = try OutputFile(path, replaces: false)
        try file.write(Array("a\n".utf8))
        #expect(!FilePath.exists(path))
        try file.commit()
        #expect(try text(path) == "a\n")
        #expect(try entries(folder) == ["out.jsonl"])
    }

    @Test("KINDS 16: nothing is left of an abandoned file") func nothingIsLeftOfAnAbandonedFile()
        throws
    {
        let folder = try ShortFolder()
        let file = try OutputFile(folder.path + "/out.jsonl", replaces: false)
        try file.write([1])
        file.abandon()
        #expect(try entries(folder).isEmpty)
    }

    @Test("KINDS 16: an existing file is replaced only when asked")
    func anExistingFileIsReplacedOnlyWhenAsked() throws {
        let folder = try ShortFolder()
        let path = folder.path + "/out.jsonl"
        try DurableFile.write("old", to: path)
        let error = #expect(throws: ClientError.self) { try OutputFile(path, replaces: false) }
        #expect(error?.kind == .badRequest)
        #expect(error?.hint?.contains("--force") == true)
        let file = try OutputFile(path, replaces: true)
        try file.write(Array("new".utf8))
        try file.commit()
        #expect(try text(path) == "new")
        #expect(try entries(folder) == ["out.jsonl"])
    }

    @Test func aFileMadeMeanwhileIsNotReplaced() throws {
        let folder = try ShortFolder()
        let path = folder.path + "/out.jsonl"
        let file = try OutputFile(path, replaces: false)
        try file.write(Array("new".utf8))
        try DurableFile.write("theirs", to: path)
        #expect(throws: ClientError.self) { try file.commit() }
        #expect(try text(path) == "theirs")
        #expect(try entries(folder) == ["out.jsonl"])
    }

    @Test("KINDS 16: the input is never replaced") func theInputIsNeverReplaced() throws {
        let folder = try ShortFolder()
        let path = folder.path + "/in.jsonl"
        try DurableFile.write("input", to: path)
        // By another name for the same file.
        let other = folder.path + "/run/../in.jsonl"
        let error = #expect(throws: ClientError.self) {
            try OutputFile(other, replaces: true, inputs: [path])
        }
        #expect(error?.message.contains("is the input itself") == true)
        #expect(try text(path) == "input")
    }

    @Test func devicesAreWrittenAsTheyAre() throws {
        let file = try OutputFile("/dev/null", replaces: false)
        try file.write([1, 2, 3])
        try file.commit()
        #expect(FilePath.exists("/dev/null"))
    }

    @Test func aMissingFolderIsNamed() throws {
        let folder = try ShortFolder()
        let error = #expect(throws: ClientError.self) {
            try OutputFile.check(folder.path + "/no/out.jsonl", replaces: false)
        }
        #expect(error?.message.contains("there is no folder") == true)
    }
}

@Suite struct LoraqHomeTests {
    @Test func theOptionWinsThenTheEnvironmentThenTheDefault() throws {
        let environment = ["LORAQ_HOME": "/srv/q", "HOME": "/home/u"]
        #expect(try LoraqHome(explicit: "/x/../y", environment: environment).path == "/y")
        #expect(try LoraqHome(explicit: nil, environment: environment).path == "/srv/q")
        #expect(
            try LoraqHome(explicit: nil, environment: ["HOME": "/home/u"]).path
                == "/home/u/.local/share/loraq")
        #expect(throws: ClientError.self) { try LoraqHome(explicit: nil, environment: [:]) }
    }

    @Test func socketsLieInItsRunFolder() throws {
        let home = try LoraqHome(explicit: "/q", environment: [:])
        #expect(home.controlEndpoint == "ipc:///q/run/control")
        #expect(home.eventsEndpoint == "ipc:///q/run/events")
        #expect(home.brokerLog == "/q/logs/loraqd.log")
    }
}
