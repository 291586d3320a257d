import ArgumentParser
import JSONModel
import LinuxSystem
import LoraqClient
import WireProtocol

struct Sweep: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Train an adapter in several ways and keep the best.",
        usage: """
            loraq sweep MODEL TRAIN.jsonl --eval EVAL.jsonl --grid NAME=V,V … --name BEST [--wait]
            loraq sweep MODEL TRAIN.jsonl --eval EVAL.jsonl --progressive --target X --name BEST [--wait]
            loraq sweep show JOB
            """,
        discussion: """
            For example: loraq sweep tiny train.jsonl --eval eval.jsonl --grid r=4,8,16 learning_rate=1e-4,3e-4 --name best

            A sweep is a graph of jobs: a fine-tune and an evaluation each, and one that chooses the best and registers it \
            under the name asked for. Its id is printed; all of them have one label. Nothing depends on this command once the \
            id is printed: `loraq wait JOB`, `loraq status JOB` and `loraq sweep show JOB` print the table at any time, \
            `loraq cancel LABEL` ends all.

            `loraq sweep run --help` lists the options.
            """,
        subcommands: [Run.self, Show.self], defaultSubcommand: Run.self)

    struct Show: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "The table of a sweep, as far as it has come.",
            discussion: """
                With --json: {"job", "state", "name", "metric", "goal", "candidates", "best"?, "conclusion"?, "adapter"?}.
                """)

        @Argument(help: ArgumentHelp("The sweep's id or label.", valueName: "job")) var job: String
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            let view = try SweepView.load(job, session)
            if session.json { return try session.print(json: try view.json()) }
            try session.print(SweepText.text(view, style: session.style), terminator: "")
        }
    }

    struct Run: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Begin a sweep (the default).",
            discussion: """
                --grid trains every combination of the values, each on its own; recipe fields as for --set, a list of modules \
                with + (target_modules=attention,q_proj+v_proj).

                --progressive goes on from stage to stage: attention, embeddings, feed-forward (mlp), twice and four times the \
                rank, each begun from the adapter of the one before. It stops when --target is met, or when a stage (from the \
                second on) gained less than --min-gain over the one before; the stages after that are skipped.

                The best has the lowest eval_loss, or the highest of any other metric; of equals the lowest loss, then the first.
                """)

        @Argument(help: "The base model.") var model: String
        @Argument(help: ArgumentHelp("Training data, JSONL.", valueName: "train.jsonl"))
        var train: String
        @Option(
            name: .customLong("eval"),
            help: ArgumentHelp("Held-out rows that decide, JSONL.", valueName: "file"))
        var evaluation: String
        @Option(help: "The name the best gets, unique within its model.") var name: String
        @Option(
            parsing: .upToNextOption,
            help: ArgumentHelp("Values of recipe fields, each with each.", valueName: "name=v,v"))
        var grid: [String] = []
        @Flag(help: "Stages that build on each other, until the target is met.")
        var progressive = false
        @Option(help: "What decides: eval_loss, exact_match or token_accuracy.")
        var metric: Metric = .evalLoss
        @Option(
            parsing: .unconditional,
            help: ArgumentHelp("With --progressive: good enough.", valueName: "value"))
        var target: Double?
        @Option(
            parsing: .unconditional,
            help: ArgumentHelp(
                "With --progressive: what a stage must gain (default: 0.01, of a loss in nats per token).",
                valueName: "value"))
        var minGain: Double?
        @Option(help: ArgumentHelp("Hyperparameters of all, YAML.", valueName: "file"))
        var recipe: String?
        @Option(
            name: .customLong("set"),
            help: ArgumentHelp(
                "One hyperparameter of all, over the recipe's (repeatable).",
                valueName: "name=value"))
        var settings: [String] = []
        @OptionGroup var submit: SubmitOptions
        @OptionGroup var waiting: WaitOptions
        @OptionGroup var common: CommonOptions

        enum Metric: String, ExpressibleByArgument, CaseIterable {
            case evalLoss = "eval_loss"
            case exactMatch = "exact_match"
            case tokenAccuracy = "token_accuracy"

            /// As `evaluate` calls it.
            var measured: String { self == .evalLoss ? "loss" : rawValue }
        }

        static let defaultGain = 0.01

        mutating func validate() throws {
            if progressive == !grid.isEmpty {
                throw ValidationError(
                    progressive
                        ? "--grid and --progressive exclude each other"
                        : "give --grid or --progressive")
            }
            if progressive, target == nil {
                throw ValidationError("--progressive needs --target: what is good enough?")
            }
            if !progressive, target != nil || minGain != nil {
                throw ValidationError("--target and --min-gain are for --progressive")
            }
            if let target, !target.isFinite {
                throw ValidationError("--target must be a number, not \(target)")
            }
            if let minGain, !(minGain.isFinite && minGain >= 0) {
                throw ValidationError("--min-gain must be at least 0, not \(minGain)")
            }
        }

        func run(_ session: Session) throws {
            try NameCheck.checkReference(model, what: "the model")
            let name = try checkedName()
            let draft = try RecipeDraft(file: recipe, settings: settings)
            let combinations = progressive ? [] : try SweepGrid(grid).candidates(draft)
            let stages = progressive ? try SweepStages.make(draft) : []
            for candidate in combinations + stages.map(\.candidate) {
                _ = try candidate.recipe.checked(model: model)
            }
            try InputFile.check(train, what: "training file")
            try InputFile.check(evaluation, what: "evaluation file")
            var common = JobRequest(kind: "choose", spec: .object(JSONObject()))
            try submit.apply(to: &common, session)
            common.label = submit.label ?? "sweep-" + String(common.id.suffix(12))
            try refuseTaken(name, session)
            let submitting = Submitting(session: session, waiting: waiting)
            let graph = SweepGraph(
                model: model, name: name, metric: metric.measured,
                train: try submitting.input("train", file: train),
                evaluation: try submitting.input("eval", file: evaluation), common: common)
            let rule = StageRule(
                metric: metric.measured, goal: metric == .evalLoss ? .min : .max,
                target: target ?? 0, minimumGain: minGain ?? Self.defaultGain)
            let jobs = try progressive ? graph.jobs(stages, rule) : graph.jobs(combinations)
            try submit(jobs, common, session)
        }

        /// `--name A`; `M:A` is understood where M is the model. Candidates get longer names.
        private func checkedName() throws(ToolError) -> String {
            let plain = name.hasPrefix(model + ":") ? String(name.dropFirst(model.count + 1)) : name
            try NameCheck.check(plain, what: "--name")
            let longest = SweepGraph.adapterName(
                plain, sweep: "000000", place: ChooseSpec.maximumCandidates)
            guard WireName(text: longest) != nil else {
                throw ToolError.usage(
                    "--name \(plain) is too long: the candidates are called after it, such as \(longest)"
                )
            }
            return plain
        }

        /// A sweep makes a new adapter: a name that is in use is more likely a mistake. One that is sent again is no other.
        private func refuseTaken(_ name: String, _ session: Session) throws {
            let base = model.prefix { $0 != "@" && $0 != "#" }
            let taken = try session.client.artifacts(type: "adapter", name: "\(base):\(name)")
            guard !taken.isEmpty else { return }
            if let id = submit.id?.lowercased(), (try? session.client.job(id)) != nil { return }
            throw ToolError.usage(
                "there is an adapter \(base):\(name) already",
                hint: "choose another --name, or `loraq adapters remove \(base):\(name)` first")
        }

        private func submit(
            _ jobs: [JobRequest], _ common: JobRequest, _ session: Session
        ) throws {
            var waiter = JobWaiter(session: session, options: waiting)
            waiter.selectors = common.label.map { [$0] } ?? []
            let accepted: [JobAcceptance]
            do {
                accepted = try session.client.submit(jobs)
            } catch {
                // Half a sweep is none. Where no answer came it may be whole: the same `--id` goes on with it.
                guard error.answer != nil else { throw error }
                for job in jobs { _ = try? session.call(.cancel, ["jobs": [.string(job.id)]]) }
                throw error
            }
            guard let chooses = accepted.last else { return }
            if chooses.duplicate { session.note("the sweep was submitted before") }
            if !session.json {
                try session.print(chooses.job)
                session.note(
                    "\(HumanText.plural(jobs.count, "job")) with the label \(common.label ?? "")")
            }
            guard waiting.wait else {
                guard session.json else { return }
                return try session.print(
                    json: [
                        "job": .string(chooses.job), "state": .string(chooses.state),
                        "duplicate": .bool(chooses.duplicate),
                        "label": .string(common.label ?? ""),
                        "jobs": .array(jobs.map { .string($0.id) }),
                    ])
            }
            let ended = try waiter.wait(for: jobs.map(\.id))
            guard let end = ended.first(where: { $0.id == chooses.job }) else { return }
            if session.json {
                try session.print(json: end.json)
            } else {
                try session.print(
                    SweepText.text(try SweepView(end, session), style: session.style),
                    terminator: "")
                if let error = end.error {
                    session.note(JobText.errorText(error, style: session.terminal.errorStyle))
                }
            }
            try JobWaiter.finish([end])
        }
    }
}
