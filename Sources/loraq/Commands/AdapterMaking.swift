import ArgumentParser
import JSONModel
import LoraqClient
import WireProtocol

// Adapters out of adapters. All three are jobs of the kind `adapter` with the action `merge`.

extension Adapters {
    struct Merge: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make an adapter that is the weighted sum of others.",
            discussion: """
                For example: loraq adapters merge tiny:a:0.7 tiny:b:0.3 --name ab

                The sum is that of the updates and exact: its rank on each matrix is the sum of theirs. Ranks, \
                scalings and target modules may differ. --rank or --energy bring it down to the best approximation of \
                a smaller rank, and the share of the energy that is kept is printed.
                """)

        @Argument(help: "M:A:WEIGHT (or A:WEIGHT, M:A@3:WEIGHT); a weight may be negative.")
        var parts: [String]
        @Option(help: "The name it gets, unique within its model.") var name: String
        @OptionGroup var reduction: ReductionOptions
        @OptionGroup var options: ArtifactJobOptions
        @OptionGroup var submit: SubmitOptions
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            let parts = try parts.map { text in
                let part = try AdapterMaking.part(text)
                return AdapterMerge.Part(
                    adapter: try AdapterMaking.reference(part.name, session), weight: part.weight)
            }
            try AdapterMaking.run(
                parts, name: name, reduction, options, submit, session)
        }
    }

    struct Truncate: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make an adapter of a smaller rank that comes nearest to another.",
            discussion: """
                For example: loraq adapters truncate tiny:ab --energy 0.9 --name ab-small

                With --rank every matrix gets at most that rank; with --energy each gets the smallest rank that keeps \
                that share of its squared singular values. Ranks that differ are written as rank_pattern.
                """)

        @Argument(help: "M:A, M:A@3, or A where that is unambiguous.") var adapter: String
        @Option(help: "The name it gets, unique within its model.") var name: String
        @OptionGroup var reduction: ReductionOptions
        @OptionGroup var options: ArtifactJobOptions
        @OptionGroup var submit: SubmitOptions
        @OptionGroup var common: CommonOptions

        mutating func validate() throws {
            if reduction.rank == nil, reduction.energy == nil {
                throw ValidationError("give --rank or --energy")
            }
        }

        func run(_ session: Session) throws {
            let part = AdapterMerge.Part(adapter: try AdapterMaking.reference(adapter, session))
            try AdapterMaking.run(
                [part], name: name, reduction, options, submit, session)
        }
    }

    struct Scale: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make an adapter whose update is a multiple of another's.",
            discussion: """
                For example: loraq adapters scale tiny:a -1 --name not-a   (what a adds, this takes away)
                """)

        @Argument(help: "M:A, M:A@3, or A where that is unambiguous.") var adapter: String
        // An array only because a negative number looks like an option to the parser.
        @Argument(
            parsing: .allUnrecognized,
            help: ArgumentHelp(
                "What the update is multiplied with; -1 negates it.", valueName: "factor"))
        var factors: [String]
        @Option(help: "The name it gets, unique within its model.") var name: String
        @OptionGroup var options: ArtifactJobOptions
        @OptionGroup var submit: SubmitOptions
        @OptionGroup var common: CommonOptions

        mutating func validate() throws { _ = try factor() }

        func factor() throws -> Double {
            // `allUnrecognized` takes what looks like an option, too.
            if let option = factors.first(where: { $0.hasPrefix("-") && Double($0) == nil }) {
                throw ValidationError("Unknown option '\(option)'")
            }
            guard factors.count == 1, let factor = Double(factors[0]) else {
                throw ValidationError(
                    factors.isEmpty
                        ? "give the factor, such as -1"
                        : "expected one number as the factor, not `\(factors.joined(separator: " "))`"
                )
            }
            try AdapterMaking.check(weight: factor, "the factor")
            return factor
        }

        func run(_ session: Session) throws {
            let part = AdapterMerge.Part(
                adapter: try AdapterMaking.reference(adapter, session), weight: try factor())
            try AdapterMaking.run(
                [part], name: name, nil, options, submit, session)
        }
    }
}

/// How far an adapter is brought down.
struct ReductionOptions: ParsableArguments {
    @Option(
        parsing: .unconditional, help: "Bring each matrix down to at most this rank.",
        transform: Quantity.whole(1...4096))
    var rank: Int?
    @Option(
        parsing: .unconditional,
        help: "Keep this share of each matrix's squared singular values, such as 0.95.")
    var energy: Double?

    mutating func validate() throws {
        if let energy, !(energy > 0 && energy <= 1) {
            throw ValidationError("--energy must be above 0 and at most 1, not \(energy)")
        }
        if rank != nil, energy != nil {
            throw ValidationError("--rank and --energy exclude each other")
        }
    }
}

/// What the three commands share.
enum AdapterMaking {
    static func check(weight: Double, _ what: String) throws {
        guard weight.isFinite, weight != 0, weight.magnitude <= 1e6 else {
            throw ValidationError(
                "\(what) must be neither zero nor beyond a million, not \(weight)")
        }
    }

    /// `M:A:0.7`: what stands before the last colon, and the number after it.
    static func part(_ text: String) throws -> (name: String, weight: Double) {
        guard let colon = text.lastIndex(of: ":"), colon > text.startIndex,
            let weight = Double(text[text.index(after: colon)...])
        else {
            throw ToolError.usage(
                "`\(TextTable.oneLine(text))` has no weight",
                hint: "write ADAPTER:WEIGHT, such as tiny:a:0.7")
        }
        do {
            try check(weight: weight, "the weight in `\(TextTable.oneLine(text))`")
        } catch let error as ValidationError {
            throw ToolError.usage(error.message)
        }
        return (String(text[..<colon]), weight)
    }

    static func reference(_ text: String, _ session: Session) throws -> ArtifactReference {
        let full = try AdapterName.resolve(text, session)
        guard let reference = ArtifactReference(text: full), reference.adapter != nil else {
            throw ToolError.usage("\(TextTable.oneLine(full)) names no adapter")
        }
        return reference
    }

    static func run(
        _ parts: [AdapterMerge.Part], name: String, _ reduction: ReductionOptions?,
        _ options: ArtifactJobOptions, _ submit: SubmitOptions, _ session: Session
    ) throws {
        guard let first = parts.first, parts.count <= AdapterMerge.maximumParts else {
            throw ToolError.usage("1 to \(AdapterMerge.maximumParts) adapters can be combined")
        }
        let model = first.adapter.model
        if let other = parts.first(where: { $0.adapter.model != model }) {
            throw ToolError.usage(
                "\(other.adapter) and \(first.adapter) belong to different models: their updates do not add up"
            )
        }
        let plain =
            name.hasPrefix(model.text + ":") ? String(name.dropFirst(model.text.count + 1)) : name
        try NameCheck.check(plain, what: "the adapter's name")
        guard let wireName = WireName(text: plain) else { return }
        let spec = AdapterMerge(
            name: wireName, parts: parts, rank: reduction?.rank, energy: reduction?.energy)
        var request = JobRequest(kind: "adapter", spec: try WireEncoder.encode(spec))
        try submit.apply(to: &request, session)
        try Registration.run(
            request, name: "\(model):\(plain)", what: "adapter", session, options.waiting)
    }
}
