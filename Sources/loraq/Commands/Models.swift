import ArgumentParser
import JSONModel
import LinuxSystem
import LoraqClient

struct Models: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Base models: add, list, show, tag, remove.",
        subcommands: [Add.self, List.self, Show.self, Tag.self, Remove.self],
        defaultSubcommand: List.self)

    struct Add: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Register a base model from a Hugging Face folder or a GGUF file.")

        @Argument(help: "The name it gets.") var name: String
        @Argument(help: "A folder with config.json and *.safetensors, or a .gguf file.")
        var path: String
        @Option(
            help: "Of the packed matrices: bfloat16 or float32 (default: as the file has them).")
        var dtype: String?
        @OptionGroup var options: ArtifactJobOptions
        @OptionGroup var submit: SubmitOptions
        @OptionGroup var common: CommonOptions

        mutating func validate() throws {
            if let dtype, !["bfloat16", "float32"].contains(dtype) {
                throw ValidationError("--dtype must be bfloat16 or float32, not `\(dtype)`")
            }
        }

        func run(_ session: Session) throws {
            try NameCheck.check(name, what: "the model's name")
            let full = FilePath.absolute(path)
            try ModelPath.check(full)
            var spec: JSONObject = ["name": .string(name), "path": .string(full)]
            spec["dtype"] = dtype.map { .string($0) }
            var request = JobRequest(kind: "prepare", spec: .object(spec))
            try submit.apply(to: &request, session)
            try Registration.run(
                request, name: name, what: "model", session, options.waiting)
        }
    }

    struct List: SessionCommand {
        static let configuration = CommandConfiguration(abstract: "List models.")
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            let models = try session.client.artifacts(type: "model")
            try ArtifactText.printList(models, key: "models", session)
        }
    }

    struct Show: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show a model: architecture, size, digest, tags.")
        @Argument(help: "M, M@2 or M#tag.") var name: String
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            try NameCheck.checkReference(name, what: "the model")
            try ArtifactText.printOne(
                session.client.artifacts(type: "model", name: name), name, "model", session)
        }
    }

    struct Tag: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Put a tag on a version: M#TAG then names it, until the tag moves on.")
        @Argument(help: "M or M@2.") var name: String
        @Argument(help: "The tag, such as `stable`.") var tag: String
        @Flag(help: "Take the tag off.") var remove = false
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            try NameCheck.checkReference(name, what: "the model")
            try Registration.tag(name, tag, removes: remove, session)
        }
    }

    struct Remove: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Remove a model that no unfinished job needs.")
        @Argument(help: "M or M@2.") var name: String
        @Flag(help: "Its adapters too.") var force = false
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            try NameCheck.checkReference(name, what: "the model")
            try Registration.remove(name, force: force, session)
        }
    }
}
