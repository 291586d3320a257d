import ArgumentParser
import Foundation
import JSONModel
import LinuxSystem
import LoraqClient
import WireProtocol

struct Adapters: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "LoRA adapters: add, list, show, export, remove.",
        subcommands: [Add.self, List.self, Show.self, Export.self, Remove.self],
        defaultSubcommand: List.self)

    struct Add: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Register an adapter from a PEFT folder.")

        @Argument(help: "The name it gets, unique within its model.") var name: String
        @Argument(help: "A folder with adapter_config.json and adapter_model.safetensors.")
        var path: String
        @Option(help: "The base model it belongs to.") var model: String
        @Flag(help: "Do not wait until it is registered.") var noWait = false
        @Option(
            help: ArgumentHelp(
                "Give up waiting after this long (the job goes on; exit code 4).",
                valueName: "seconds"))
        var timeout: Double?
        @Flag(name: .shortAndLong, help: "No progress.") var quiet = false
        @OptionGroup var submit: SubmitOptions
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            try NameCheck.checkReference(model, what: "--model")
            let plain =
                name.hasPrefix(model + ":") ? String(name.dropFirst(model.count + 1)) : name
            try NameCheck.check(plain, what: "the adapter's name")
            let full = FilePath.absolute(path)
            guard FilePath.isDirectory(full) else {
                throw ToolError.usage("there is no folder \(full)")
            }
            guard FilePath.exists(full + "/adapter_config.json") else {
                throw ToolError.usage(
                    "\(full) holds no adapter_config.json",
                    hint:
                        "an adapter is a PEFT folder: adapter_config.json and adapter_model.safetensors"
                )
            }
            var request = JobRequest(
                kind: "adapter",
                spec: .object([
                    "action": "register", "model": .string(model), "name": .string(plain),
                    "path": .string(full),
                ]))
            try submit.apply(to: &request, session)
            try Registration.run(
                request, name: "\(model):\(plain)", what: "adapter", session,
                Registration.waiting(noWait: noWait, timeout: timeout, quiet: quiet))
        }
    }

    struct List: SessionCommand {
        static let configuration = CommandConfiguration(abstract: "List adapters.")
        @Option(help: "Only this model's.") var model: String?
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            if let model { try NameCheck.checkReference(model, what: "--model") }
            let adapters = try session.client.artifacts(
                type: "adapter", name: model.map { "\($0):" })
            try ArtifactText.printList(adapters, key: "adapters", session)
        }
    }

    struct Show: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show an adapter: rank, targets, digest, the job that made it.")
        @Argument(help: "M:A, M:A@3, or A where that is unambiguous.") var name: String
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            let reference = try AdapterName.resolve(name, session)
            try ArtifactText.printOne(
                session.client.artifacts(type: "adapter", name: reference), reference, "adapter",
                session)
        }
    }

    struct Export: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write an adapter as a PEFT folder.")
        @Argument(help: "M:A, M:A@3, or A where that is unambiguous.") var name: String
        @Argument(help: "The folder to make.") var folder: String
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            let reference = try AdapterName.resolve(name, session)
            let files = try ArtifactDownload(session: session, reference: reference)
                .write(to: FilePath.absolute(folder))
            if session.json {
                return try session.print(
                    json: .object([
                        "artifact": .string(reference), "folder": .string(folder),
                        "files": .array(files.map { .string($0) }),
                    ]))
            }
            try session.print("\(reference) in \(folder): \(files.joined(separator: ", "))")
        }
    }

    struct Remove: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Remove an adapter that no unfinished job needs.")
        @Argument(help: "M:A, M:A@3, or A where that is unambiguous.") var name: String
        @Flag(help: "Even if unfinished jobs need it.") var force = false
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            try Registration.remove(try AdapterName.resolve(name, session), force: force, session)
        }
    }
}

/// `A` where just one model has an adapter of that name.
enum AdapterName {
    static func resolve(_ text: String, _ session: Session) throws -> String {
        try NameCheck.checkReference(text, what: "the adapter")
        if text.contains(":") { return text }
        let all = try session.client.artifacts(type: "adapter")
        return try choose(text, among: all.compactMap { $0["name"]?.string })
    }

    /// - Parameters:
    ///   - text: `A`, `A@3` or `A#tag`.
    ///   - names: All adapters, as `M:A`.
    static func choose(_ text: String, among names: [String]) throws(ToolError) -> String {
        let end = text.firstIndex { $0 == "@" || $0 == "#" } ?? text.endIndex
        let bare = String(text[..<end])
        let matches = Set(names.filter { $0.hasSuffix(":" + bare) }).sorted()
        switch matches.count {
        case 1: return matches[0] + text[end...]
        case 0:
            let known = Set(names.compactMap { $0.split(separator: ":").last.map(String.init) })
            let likely = Suggestion.nearest(to: bare, among: known)
            throw ToolError(
                .failure,
                "there is no adapter `\(bare)`" + (likely.map { "; did you mean `\($0)`?" } ?? ""),
                hint: "`loraq adapters list` lists them")
        default:
            throw ToolError.usage(
                "several models have an adapter `\(bare)`: " + matches.joined(separator: ", "),
                hint: "name the model too")
        }
    }
}

/// Reads an artifact's files from the broker into a new folder: whole, or not at all.
struct ArtifactDownload {
    let session: Session
    let reference: String

    /// - Returns: The files' names.
    func write(to folder: String) throws -> [String] {
        if FilePath.exists(folder) {
            let isEmpty =
                FilePath.isDirectory(folder) && (try? FilePath.entries(of: folder))?.isEmpty == true
            guard isEmpty else {
                throw ToolError.usage(
                    "\(folder) exists already", hint: "give the name of a folder that is to be made"
                )
            }
        }
        let reply = try session.call(.get, ["artifact": .string(reference)])
        let files = try (reply.header["files"]?.array ?? []).map(ArtifactDownload.file)
        guard !files.isEmpty else {
            throw ToolError(.failure, "the broker has no files for \(reference)")
        }
        let parent = FilePath.parent(of: folder)
        let unique = UInt32.random(in: 0...UInt32.max)
        let working = "\(parent)/.\(FilePath.name(of: folder)).\(unique).partial"
        do {
            try DurableFile.createDirectories(working, mode: 0o755)
            for file in files { try fetch(file.name, file.bytes, into: working) }
            try DurableFile.rename(working, to: folder)
        } catch {
            try? DurableFile.removeTree(working)
            throw error
        }
        return files.map(\.name)
    }

    /// A name from the broker is used as a path only if it stays inside the folder.
    static func file(_ json: JSONValue) throws(ToolError) -> (name: String, bytes: Int) {
        let name = json["name"]?.string ?? ""
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        let isPlain =
            !name.isEmpty && !name.utf8.contains(0)
            && parts.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
        guard isPlain, let bytes = json["bytes"]?.integer, bytes >= 0 else {
            throw ToolError(
                .failure,
                "the broker names a file that cannot be written: `\(TextTable.oneLine(name))`")
        }
        return (name, bytes)
    }

    private func fetch(_ name: String, _ size: Int, into folder: String) throws {
        let path = "\(folder)/\(name)"
        try DurableFile.createDirectories(FilePath.parent(of: path), mode: 0o755)
        var writer = try DurableFileWriter(path: path, mode: 0o644)
        do {
            while writer.count < size {
                let piece = try session.call(
                    .get,
                    [
                        "artifact": .string(reference), "file": .string(name),
                        "offset": .integer(Int64(writer.count)),
                        "bytes": .integer(Int64(min(WireLimits.bodyBytes, size - writer.count))),
                    ]
                ).body("piece")
                guard let piece, !piece.isEmpty else {
                    throw ToolError(
                        .failure, "the broker sent only \(writer.count) of \(size) bytes of \(name)"
                    )
                }
                try writer.append(piece)
            }
        } catch {
            writer.abandon()
            throw error
        }
        try writer.commit()
    }
}
