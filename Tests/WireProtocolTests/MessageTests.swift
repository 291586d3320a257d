import JSONModel
import Testing

@testable import WireProtocol

private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

private func refusal(_ frames: [[UInt8]]) -> WireError? {
    do throws(WireError) {
        _ = try Message(frames: frames)
        return nil
    } catch {
        return error
    }
}

@Test func aMessageComesThroughItsFrames() throws {
    var message = try Message(
        .fetch, FetchRequest(job: "last", after: "c"), requestID: "r-1",
        bodies: [Message.Body("a", [1, 2, 3]), Message.Body("b", [])])
    message.hasDelimiter = true
    let frames = try message.frames()
    #expect(frames.count == 6)
    #expect(frames[0].isEmpty)
    let again = try Message(frames: frames)
    #expect(again.verb == .fetch)
    #expect(again.requestID == "r-1")
    #expect(again.hasDelimiter)
    #expect(again.bodies == message.bodies)
    #expect(try again.decode(FetchRequest.self).after == "c")
    #expect(again.body("b") == [])
    #expect(again.body("c") == nil)
    let reply = try again.reply(.ok, FetchReply(count: 0, next: "c", complete: true))
    #expect(reply.requestID == "r-1")
    #expect(try reply.frames().first == [])
}

@Test func malformedFramesAreRefusedWithTheirReason() {
    let tag = bytes("LQP/1")
    #expect(refusal([])?.code == .badFrame)
    #expect(refusal([[]])?.code == .badFrame)
    #expect(refusal([tag, bytes("PING")])?.code == .badFrame)
    #expect(refusal([bytes("LQP/2"), bytes("PING"), bytes("{}")])?.code == .badFrame)
    #expect(refusal([tag, bytes("ping"), bytes("{}")])?.code == .badFrame)
    #expect(refusal([tag, [], bytes("{}")])?.code == .badFrame)
    #expect(refusal([tag, [0xff, 0xfe], bytes("{}")])?.code == .badFrame)
    #expect(
        refusal([tag, bytes(String(repeating: "A", count: 33)), bytes("{}")])?.code == .badFrame)
    #expect(refusal([tag, bytes("PING"), []])?.code == .badHeader)
    #expect(refusal([tag, bytes("PING"), bytes("{")])?.code == .badHeader)
    #expect(refusal([tag, bytes("PING"), bytes("[]")])?.code == .badHeader)
    #expect(refusal([tag, bytes("PING"), [0xff]])?.code == .badHeader)
    #expect(refusal([tag, bytes("PING"), bytes(#"{"request_id": 1}"#)])?.key == "request_id")
    let long = String(repeating: "x", count: 65)
    #expect(
        refusal([tag, bytes("PING"), bytes("{\"request_id\": \"\(long)\"}")])?.code == .badHeader)
    let deep = String(repeating: "[", count: 100) + String(repeating: "]", count: 100)
    #expect(refusal([tag, bytes("PING"), bytes("{\"a\": \(deep)}")])?.code == .badHeader)
    let big = "{\"a\": \"" + String(repeating: "x", count: WireLimits.headerBytes) + "\"}"
    #expect(refusal([tag, bytes("PING"), bytes(big)])?.code == .tooLarge)
}

@Test func bodiesMustAgreeWithTheHeader() {
    func read(_ header: String, _ bodies: [[UInt8]]) -> WireError? {
        refusal([bytes("LQP/1"), bytes("PUT"), bytes(header)] + bodies)
    }
    let one = #"{"request_id": "r", "bodies": [{"name": "piece", "bytes": 3}]}"#
    #expect(read(one, [[1, 2, 3]]) == nil)
    #expect(read(one, [])?.code == .badFrame)
    #expect(read(one, [[1, 2]])?.key == "bodies[0].bytes")
    #expect(read(one, [[1, 2, 3], []])?.code == .badFrame)
    #expect(read(one, [])?.requestID == "r")
    #expect(read("{}", [[1]])?.code == .badFrame)
    #expect(read(#"{"bodies": {}}"#, [])?.key == "bodies")
    #expect(read(#"{"bodies": [{"name": "../x", "bytes": 0}]}"#, [[]])?.key == "bodies[0].name")
    let large = [UInt8](repeating: 0, count: WireLimits.bodyBytes + 1)
    let header = "{\"bodies\": [{\"name\": \"piece\", \"bytes\": \(large.count)}]}"
    #expect(read(header, [large])?.code == .tooLarge)
    let many = [[UInt8]](repeating: [], count: WireLimits.bodies + 1)
    #expect(read("{}", many)?.code == .tooLarge)
}

@Test func whatIsTooLargeIsNotSent() {
    let body = Message.Body("x", [UInt8](repeating: 0, count: WireLimits.bodyBytes + 1))
    #expect(throws: WireError.self) { try Message(verb: .put, bodies: [body]).frames() }
    let long = String(repeating: "x", count: WireLimits.headerBytes)
    #expect(throws: WireError.self) {
        try Message(.explain, ExplainRequest(job: long)).frames()
    }
}

@Test func anErrorNamesTheKeyAndTheRequest() throws {
    let header = #"{"request_id": "r9", "session": "s", "tasks": [{"task": "x", "attempt": 1}]}"#
    let message = try Message(frames: [bytes("LQP/1"), bytes("TASK"), bytes(header)])
    let error = #expect(throws: WireError.self) { try message.decode(TaskHeader.self) }
    #expect(error?.key == "tasks[0].task")
    #expect(error?.requestID == "r9")
    #expect(error?.errorObject.code == .badHeader)
    #expect(error?.errorObject.details?["key"]?.string == "tasks[0].task")
    let reply = message.reply(error: try #require(error).errorObject)
    #expect(reply.requestID == "r9")
    #expect(try reply.decodeError().message.contains("tasks[0].task"))
}

@Test func opaqueFieldsKeepOrderAndForm() throws {
    let spec = #"{"z":1.0,"a":[3,2.50,null],"m":{"b":1,"a":2},"é":"e\u0301"}"#
    let header =
        "{\"job\":{\"id\":\"01936126-927b-7fff-bfff-ffffffffffff\",\"kind\":\"k\",\"spec\":\(spec)}}"
    let message = try Message(frames: [bytes("LQP/1"), bytes("SUBMIT"), bytes(header)])
    let request = try message.decode(SubmitRequest.self)
    let again = try Message(frames: Message(.submit, request).frames())
    let parsed = try JSONValue.parse(spec)
    #expect(again.header["job"]?["spec"]?.serialized() == parsed.serialized())
}

@Test func aNumberWithoutJSONFormIsNotSent() {
    #expect(throws: WireError.self) {
        try Message(.beat, ProgressObject(counter: 1, done: .nan))
    }
}

@Test func randomBytesNeverTrap() {
    var generator = SeededGenerator(state: 7)
    let verbs = ["PING", "SUBMIT", "x", ""]
    let good = #"{"request_id":"r","bodies":[{"name":"a","bytes":2}],"job":{"id":"x","kind":1}}"#
    for _ in 0..<3_000 {
        var header = bytes(good)
        for _ in 0..<Int.random(in: 0...6, using: &generator) {
            header[Int.random(in: 0..<header.count, using: &generator)] = UInt8.random(
                in: 0...255, using: &generator)
        }
        var frames = [bytes("LQP/1"), bytes(verbs.randomElement(using: &generator) ?? ""), header]
        if Bool.random(using: &generator) { frames.append([1, 2]) }
        if Bool.random(using: &generator) { frames.insert([], at: 0) }
        guard let message = try? Message(frames: frames) else { continue }
        _ = try? message.decode(SubmitRequest.self)
        _ = try? message.decode(ResultHeader.self)
    }
}

/// SplitMix64, so that a failure can be repeated.
private struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
