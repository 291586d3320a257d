import ArgumentParser
import JSONModel
import LinuxSystem
import LoraqClient

struct Adapters: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "LoRA adapters: add, list, show, merge, truncate, scale, export, tag, remove.",
        subcommands: [
            Add.self, List.self, Show.self, Merge.self, Truncate.self, Scale.self, Export.self,
            Tag.self, Remove.self,
        ],
        defaultSubcommand: List.self)

    struct Add: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Register an adapter from a PEFT folder or a GGUF file.")

        @Argument(help: "The name it gets, unique within its model.") var name: String
        @Argument(
            help:
                "A folder with adapter_config.json and adapter_model.safetensors, or a .gguf file.")
        var path: String
        @Option(help: "The base model it belongs to.") var model: String
        @Flag(help: "Take it even if its folder says that it was trained for another base.")
        var anyBase = false
        @OptionGroup var options: ArtifactJobOptions
        @OptionGroup var submit: SubmitOptions
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            try NameCheck.checkReference(model, what: "--model")
            let plain =
                name.hasPrefix(model + ":") ? String(name.dropFirst(model.count + 1)) : name
            try NameCheck.check(plain, what: "the adapter's name")
            let full = FilePath.absolute(path)
            let isFile = full.hasSuffix(".gguf")
            guard isFile ? FilePath.exists(full) : FilePath.isDirectory(full) else {
                throw ToolError.usage("there is no \(isFile ? "file" : "folder") \(full)")
            }
            guard isFile || FilePath.exists(full + "/adapter_config.json") else {
                throw ToolError.usage(
                    "\(full) holds no adapter_config.json",
                    hint:
                        "an adapter is a PEFT folder: adapter_config.json and adapter_model.safetensors"
                )
            }
            var spec: JSONObject = [
                "action": "register", "model": .string(model), "name": .string(plain),
                "path": .string(full),
            ]
            if anyBase { spec["any_base"] = true }
            var request = JobRequest(kind: "adapter", spec: .object(spec))
            try submit.apply(to: &request, session)
            try Registration.run(
                request, name: "\(model):\(plain)", what: "adapter", session, options.waiting)
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

    struct Tag: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Put a tag on a version: M:A#TAG then names it, until the tag moves on.")
        @Argument(help: "M:A, M:A@3, or A where that is unambiguous.") var name: String
        @Argument(help: "The tag, such as `stable`.") var tag: String
        @Flag(help: "Take the tag off.") var remove = false
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            try Registration.tag(
                AdapterName.resolve(name, session), tag, removes: remove, session)
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
