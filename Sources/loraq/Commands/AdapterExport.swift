import ArgumentParser
import JSONModel
import LinuxSystem
import LoraqClient
import WireProtocol

extension Adapters {
    struct Export: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract:
                "Write an adapter as a PEFT folder, and for llama.cpp as GGUF; or merged into its base.",
            discussion: """
                With --merged the worker computes the adapter into the base's matrices and writes the whole model as a \
                Hugging Face folder, which transformers loads and `loraq models add` takes; with --merged --gguf as \
                model.gguf in the folder, which llama.cpp runs and `loraq models add` takes. With --prompts, a file in \
                the form of training data, it also reports how far the merged model is from the unmerged one.
                """)
        @Argument(help: "M:A, M:A@3, or A where that is unambiguous.") var name: String
        @Argument(help: "The folder to make.") var folder: String
        @Flag(
            help:
                "The form that llama.cpp reads: adapter.gguf beside the folder's files, or with --merged model.gguf."
        )
        var gguf = false
        @Flag(help: "Write the base model with the adapter computed into it.") var merged = false
        @Option(
            help:
                "With --merged: bfloat16 or float32, with --gguf also float16 (default: as the base is kept)."
        )
        var dtype: String?
        @Option(
            help: ArgumentHelp(
                "With --merged: texts to compare the merged model with the unmerged one on.",
                valueName: "file"))
        var prompts: String?
        @OptionGroup var options: ArtifactJobOptions
        @OptionGroup var submit: SubmitOptions
        @OptionGroup var common: CommonOptions

        mutating func validate() throws {
            let type = dtype.flatMap(AdapterExport.DType.init(rawValue:))
            if let dtype, type == nil {
                throw ValidationError(
                    "--dtype must be bfloat16, float32 or float16, not `\(dtype)`")
            }
            if type == .float16, !gguf {
                throw ValidationError("--dtype float16 goes with --gguf")
            }
            if !merged, dtype != nil || prompts != nil {
                throw ValidationError("--dtype and --prompts go with --merged")
            }
        }

        func run(_ session: Session) throws {
            if merged { return try runMerged(session) }
            let reference = try AdapterName.resolve(name, session)
            let made = try ArtifactDownload(session: session, reference: reference)
                .write(to: FilePath.absolute(folder))
            var files = made.files.map(\.name)
            if gguf {
                try AdapterGGUF.write(made.artifact, in: FilePath.absolute(folder), session)
                files.append(AdapterGGUF.fileName)
            }
            if session.json {
                return try session.print(
                    json: .object([
                        "artifact": .string(made.pinned), "folder": .string(folder),
                        "files": .array(files.map { .string($0) }),
                    ]))
            }
            try session.print("\(made.pinned) in \(folder): \(files.joined(separator: ", "))")
        }

        private func runMerged(_ session: Session) throws {
            let reference = try AdapterMaking.reference(name, session)
            let path = FilePath.absolute(folder)
            guard !FilePath.exists(path) else {
                throw ToolError.usage("\(path) exists; it is not overwritten")
            }
            guard FilePath.isDirectory(FilePath.parent(of: path)) else {
                throw ToolError.usage("there is no folder \(FilePath.parent(of: path))")
            }
            let spec = AdapterExport(
                adapter: reference, path: path,
                dtype: dtype.flatMap(AdapterExport.DType.init(rawValue:)),
                format: gguf ? .gguf : nil)
            var request = JobRequest(kind: "adapter", spec: try WireEncoder.encode(spec))
            let submitting = Submitting(session: session, waiting: options.waiting)
            try submit.apply(to: &request, session)
            if let prompts {
                request.inputs.append(try submitting.input("prompts", file: prompts))
            }
            guard let job = try submitting.run(request, title: "merge \(reference)") else { return }
            try submitting.conclude(
                job, summary: job.result.map { MergeText.summary($0, folder: folder) })
        }
    }
}
