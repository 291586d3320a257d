import ArgumentParser
import LoraqClient
import WireProtocol

extension Adapters {
    struct Promote: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Register an adapter under another name too, as its next version.",
            discussion: """
                For example: loraq adapters promote tiny:new --name live --after 'JOB:exact_match_gain_low>0'

                With --after it is a gate: JOB is an evaluation, and where the condition does not hold this job is skipped and \
                the name stays what it was.
                """)

        @Argument(help: "M:A, M:A@3, or A where that is unambiguous.") var adapter: String
        @Option(help: "The name it gets, within its model.") var name: String
        @OptionGroup var options: ArtifactJobOptions
        @OptionGroup var submit: SubmitOptions
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            try NameCheck.check(name, what: "--name")
            let reference = try AdapterMaking.reference(adapter, session)
            let spec = ChooseSpec(
                name: try WireName(checking: name),
                candidates: [ChooseSpec.Candidate(adapter: reference)])
            var request = JobRequest(kind: "choose", spec: try WireEncoder.encode(spec))
            try submit.apply(to: &request, session)
            try Registration.run(
                request, name: "\(reference.model):\(name)", what: "adapter", session,
                options.waiting)
        }
    }
}
