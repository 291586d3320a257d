import BrokerCore
import Glibc
import LinuxSystem
import WireProtocol

/// What the core has to know of a spec. The form of the built-in kinds' specs is the wire
/// protocol's matter; a plugin's own kinds are the plugin's.
struct SpecFacts: Sendable, Equatable {
    /// Artifacts that must exist, or be produced by a job before this one.
    var references: [String] = []
    /// Those that a task may do without, if the job that was to make them failed; sorted.
    var optionalReferences: [String] = []
    var produces: [ProducedArtifact] = []
    var isStrict = false

    /// - Throws: `INVALID_SPEC` that names the field: wrong form, or a path at which nothing lies.
    init(of submission: Wire.Submission) throws {
        guard let spec = try BuiltInSpec(submission) else {
            // The lines of any kind are split here, so that what is bad among them is known here.
            isStrict = submission.spec["strict"]?.bool ?? false
            return
        }
        references = spec.references.map(\.text)
        optionalReferences = Set(spec.optionalReferences.map(\.text)).sorted()
        if let product = spec.product {
            produces = [
                ProducedArtifact(
                    type: product.adapter == nil ? "model" : "adapter", name: product.name)
            ]
        }
        switch spec {
        case .infer(let spec): isStrict = spec.strict ?? false
        case .prepare(let spec): try Self.requireReadable(spec.path)
        case .adapter(.register(let spec)): try Self.requireReadable(spec.path)
        case .adapter, .finetune, .check, .evaluate, .choose: break
        }
    }

    private static func requireReadable(_ path: String) throws(ErrorObject) {
        guard FilePath.exists(path) else {
            throw ErrorObject(
                .invalidSpec, .user, "`spec.path`: there is nothing at \(path)",
                hint: "the path is read by the broker's machine, as the broker's user")
        }
        guard access(path, R_OK) == 0 else {
            throw ErrorObject(.invalidSpec, .user, "`spec.path`: \(path) cannot be read")
        }
    }
}
