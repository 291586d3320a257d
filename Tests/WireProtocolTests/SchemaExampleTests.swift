import Foundation
import JSONModel
import Testing

@testable import WireProtocol

/// How a Swift type reads an example and writes it again.
struct ExampleCheck: Sendable {
    let name: String
    let roundTrip: @Sendable (JSONValue) throws -> JSONValue
}

/// A header: as a whole message, so that `request_id` and `bodies` are read too.
private func header<T: Codable & Sendable>(_ name: String, _ type: T.Type) -> ExampleCheck {
    ExampleCheck(name: name) { value in
        let bodies = (value["bodies"]?.array ?? []).map {
            [UInt8](repeating: 32, count: $0["bytes"]?.integer ?? 0)
        }
        let message = try Message(
            frames: [Array("LQP/1".utf8), Array("X".utf8), value.serialized()] + bodies)
        let again = try Message(
            Verb(rawValue: "X"), message.decode(type), requestID: message.requestID,
            bodies: message.bodies)
        return try JSONValue.parse(again.frames()[2])
    }
}

private func plain<T: Codable & Sendable>(_ name: String, _ type: T.Type) -> ExampleCheck {
    ExampleCheck(name: name) { try WireEncoder.encode(WireDecoder.decode(type, from: $0)) }
}

private func spec(_ kind: BuiltInKind) -> ExampleCheck {
    ExampleCheck(name: "spec.\(kind.rawValue)") { value in
        switch try BuiltInSpec(kind: kind, spec: value) {
        case .infer(let spec): try WireEncoder.encode(spec)
        case .finetune(let spec): try WireEncoder.encode(spec)
        case .prepare(let spec): try WireEncoder.encode(spec)
        case .adapter(let spec): try WireEncoder.encode(spec)
        case .check(let spec): try WireEncoder.encode(spec)
        case .evaluate(let spec): try WireEncoder.encode(spec)
        }
    }
}

private let checks: [ExampleCheck] = [
    plain("submission", Submission.self), plain("job", JobObject.self),
    plain("artifact", ArtifactObject.self), plain("worker-object", WorkerObject.self),
    plain("event-object", EventObject.self), header("error", ErrorReply.self),
    header("control.hello", ClientHello.self), header("control.welcome", ClientWelcome.self),
    header("submit.request", SubmitRequest.self), header("submit.reply", SubmitReply.self),
    header("submit_batch.request", SubmitBatchRequest.self),
    header("submit_batch.reply", SubmitBatchReply.self), header("put.request", PutRequest.self),
    header("put.reply", PutReply.self), header("select.request", SelectRequest.self),
    header("status.request", StatusRequest.self),
    header("cancel.request", CancelRequest.self), header("jobs.reply", JobsReply.self),
    header("job_states.reply", JobStatesReply.self), header("list.request", ListRequest.self),
    header("retry.request", RetryRequest.self), header("retry.reply", RetryReply.self),
    header("explain.request", ExplainRequest.self), header("explain.reply", ExplainReply.self),
    header("verify.request", VerifyRequest.self), header("verify.reply", VerifyReply.self),
    header("backup.request", BackupRequest.self), header("backup.reply", BackupReply.self),
    header("fetch.request", FetchRequest.self), header("fetch.reply", FetchReply.self),
    header("events.request", EventsRequest.self), header("events.reply", EventsReply.self),
    header("artifacts.request", ArtifactsRequest.self),
    header("artifacts.reply", ArtifactsReply.self), header("get.request", GetRequest.self),
    header("get.reply", GetReply.self), header("tag.request", TagRequest.self),
    header("tag.reply", ArtifactReply.self), header("remove.request", RemoveRequest.self),
    header("remove.reply", RemoveReply.self), header("empty.request", EmptyHeader.self),
    header("workers.reply", WorkersReply.self), header("scale.request", ScaleRequest.self),
    header("scale.reply", ScaleReply.self), header("logs.request", LogsRequest.self),
    header("logs.reply", LogsReply.self), header("attach.request", AttachRequest.self),
    header("attach.reply", AttachReply.self), header("detach.request", DetachRequest.self),
    header("detach.reply", DetachReply.self), header("drain.request", DrainRequest.self),
    header("drain.reply", DrainReply.self), header("ping.reply", PingReply.self),
    header("dispatch.hello", WorkerHello.self), header("dispatch.welcome", WorkerWelcome.self),
    header("dispatch.credit", CreditHeader.self), header("dispatch.task", TaskHeader.self),
    header("dispatch.beat", BeatHeader.self), header("dispatch.beat_ack", BeatAckHeader.self),
    header("dispatch.defer", DeferHeader.self), header("dispatch.stop", StopHeader.self),
    header("dispatch.result_ack", ResultAckHeader.self),
    header("dispatch.drain", EmptyHeader.self), header("dispatch.bye", ByeHeader.self),
    header("results.result", ResultHeader.self), header("results.progress", ProgressHeader.self),
    header("results.log", LogHeader.self), header("results.chunk", ChunkHeader.self),
    header("sink.line", SinkLineHeader.self), header("sink.end", SinkEndHeader.self),
    header("event", EventObject.self),
    ExampleCheck(name: "worker") {
        try WireEncoder.encode(WorkerManifest(json: $0.serialized()))
    },
    ExampleCheck(name: "recipe") { try WireEncoder.encode(Recipe($0)) },
    spec(.infer), spec(.finetune), spec(.prepare), spec(.adapter), spec(.check), spec(.evaluate),
    ExampleCheck(name: "line.input") { value in
        let reference = ArtifactReference(model: WireName(known: "default"))
        _ = try BatchLine(value, isInfer: true, defaultModel: reference)
        return value
    },
    plain("line.output", OutputLine.self), plain("result.finetune", FinetuneResult.self),
    plain("result.prepare", PrepareResult.self), plain("result.adapter", AdapterResult.self),
    plain("result.export", ExportResult.self), plain("result.rebase", RebaseResult.self),
    plain("result.check", CheckResult.self), plain("result.plan", PlanResult.self),
    plain("result.evaluate", EvaluateResult.self),
]

private enum Schemas {
    static let folder = URL(filePath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().appending(path: "schemas")

    static func names(in folder: URL) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
    }

    static func examples(_ kind: String, of name: String) throws -> [(String, JSONValue)] {
        let folder = folder.appending(path: "examples/\(kind)/\(name)")
        return try names(in: folder).map { file in
            let text = try String(contentsOf: folder.appending(path: file), encoding: .utf8)
            return (file.replacing(".json", with: ""), try JSONValue.parse(text))
        }
    }

    /// Invalid examples that one of the two checks cannot see, from `exceptions.json`.
    static func exceptions(_ key: String) throws -> Set<String> {
        let text = try String(
            contentsOf: folder.appending(path: "examples/exceptions.json"), encoding: .utf8)
        let list = try #require(JSONValue.parse(text)[key]?.array)
        return Set(list.compactMap(\.string))
    }
}

/// Where `written` lacks or changes something of `read`, as paths.
private func losses(_ read: JSONValue, _ written: JSONValue?, at path: String = "") -> [String] {
    switch (read, written) {
    case (.object(let left), .object(let right)):
        return left.entries.flatMap { losses($0.value, right[$0.key], at: "\(path).\($0.key)") }
    case (.array(let left), .array(let right)) where left.count == right.count:
        return zip(left, right).enumerated().flatMap {
            losses($0.element.0, $0.element.1, at: "\(path)[\($0.offset)]")
        }
    default: return read == written ? [] : [path]
    }
}

@Test func everySchemaHasATypeAndExamples() throws {
    let schemas = try Schemas.names(in: Schemas.folder.appending(path: "v1"))
        .map { $0.replacing(".schema.json", with: "") }.filter { $0 != "common" }.sorted()
    #expect(schemas == checks.map(\.name).sorted())
    for kind in ["valid", "invalid"] {
        let folders = try Schemas.names(in: Schemas.folder.appending(path: "examples/\(kind)"))
        #expect(folders == schemas)
    }
}

/// Examples named `unknown…` hold fields that the types ignore, and may lose just those.
@Test(arguments: checks.map(\.name))
func validExamplesAreReadAndWrittenAgain(_ name: String) throws {
    let check = try #require(checks.first { $0.name == name })
    for (example, value) in try Schemas.examples("valid", of: name) {
        let written = try check.roundTrip(value)
        let lost = losses(value, written)
        if example.hasPrefix("unknown") {
            #expect(!lost.isEmpty && lost.allSatisfy { !$0.dropFirst().contains(".") })
        } else {
            #expect(lost == [], "\(name)/\(example)")
        }
        // What was filled in is the default: reading it again changes nothing more.
        let again = try check.roundTrip(written)
        #expect(again == written, "\(name)/\(example)")
    }
}

@Test(arguments: checks.map(\.name))
func invalidExamplesAreRefused(_ name: String) throws {
    let check = try #require(checks.first { $0.name == name })
    let exceptions = try Schemas.exceptions("only_the_schema_refuses")
    for (example, value) in try Schemas.examples("invalid", of: name) {
        if exceptions.contains("\(name)/\(example)") {
            #expect(throws: Never.self, "\(name)/\(example) is no exception any more") {
                try check.roundTrip(value)
            }
        } else {
            let error = #expect(throws: WireError.self, "\(name)/\(example) was accepted") {
                try check.roundTrip(value)
            }
            // Every refusal says where, unless the whole is wrong.
            if let error, value.object != nil, !example.hasPrefix("both"),
                !example.hasPrefix("neither")
            {
                #expect(!error.key.isEmpty, "\(name)/\(example): \(error)")
            }
        }
    }
}

@Test func everyRecipeFieldIsInTheSchema() throws {
    let text = try String(
        contentsOf: Schemas.folder.appending(path: "v1/recipe.schema.json"), encoding: .utf8)
    let schema = try JSONValue.parse(text)
    #expect(Set(try #require(schema["properties"]?.object).keys) == Set(Recipe.names))
}

@Test func theNativeWorkersManifestIsValid() throws {
    let path = Schemas.folder.deletingLastPathComponent().appending(
        path: "workers/lora/worker.json")
    let manifest = try WorkerManifest(json: Array(Data(contentsOf: path)))
    #expect(Set(manifest.kinds.map(\.name.text)) == Set(BuiltInKind.allCases.map(\.rawValue)))
}

/// Writes what the types encode to the folder that `LORAQ_ENCODED_SAMPLES` names, for the JSON
/// Schema validator of Tests/python/test_schemas.py.
@Test(.enabled(if: ProcessInfo.processInfo.environment["LORAQ_ENCODED_SAMPLES"] != nil))
func encodedSamplesAreWritten() throws {
    let target = URL(
        filePath: try #require(ProcessInfo.processInfo.environment["LORAQ_ENCODED_SAMPLES"]))
    for check in checks {
        for (example, value) in try Schemas.examples("valid", of: check.name) {
            let folder = target.appending(path: check.name)
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            try Data(check.roundTrip(value).serialized()).write(
                to: folder.appending(path: "\(example).json"))
        }
    }
}
