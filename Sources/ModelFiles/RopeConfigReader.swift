import Foundation
import JSONModel

/// Reads both spellings of the rotation: `rope_theta` with `rope_scaling`, and `rope_parameters`; in either the
/// kind is called `rope_type` or, in older files, `type`.
struct RopeConfigReader {
    let headDimension: Int
    let maximumPositions: Int
    var defaultTheta: Double = 10_000
    /// Phi-3: rotates a part of each head where `partial_rotary_factor` says so, knows the kinds default and longrope
    /// only (older files call it su or yarn), and has 4096 where `original_max_position_embeddings` is absent.
    var isPhi = false

    func read(_ fields: inout ConfigFields) throws -> RopeConfig {
        let topTheta = try fields.optionalNumber("rope_theta")
        let topPartial = try fields.optionalNumber("partial_rotary_factor")
        let topOriginal =
            try fields.optionalSize("original_max_position_embeddings", limit: 1 << 30)
            ?? (isPhi ? 4096 : nil)
        let newer = fields.value("rope_parameters")
        let older = fields.value("rope_scaling")
        if let newer, let older, newer != older {
            throw fields.fault("rope_parameters", "differs from rope_scaling; keep one of them")
        }
        let key = newer != nil ? "rope_parameters" : "rope_scaling"
        guard let value = newer ?? older else {
            return try config(fields, theta: topTheta, partial: topPartial)
        }
        guard let object = value.object else { throw fields.fault(key, "is no object") }
        var members = Members(fields: ConfigFields(object: object, path: fields.path), key: key)
        let theta = try members.same("rope_theta", topTheta)
        let partial = try members.same("partial_rotary_factor", topPartial)
        members.originalMaximumPositions =
            try members.same(
                "original_max_position_embeddings", topOriginal.map(Double.init), isSize: true
            ).map { Int($0) } ?? maximumPositions
        var config = try config(fields, theta: theta, partial: partial)
        try scale(&config, &members)
        try members.refuseUnread()
        return config
    }

    private func config(
        _ fields: ConfigFields, theta: Double?, partial: Double?
    ) throws -> RopeConfig {
        let theta = theta ?? defaultTheta
        guard theta > 0 else { throw fields.fault("rope_theta", "\(theta) is not positive") }
        let partial = partial ?? 1
        guard isPhi || partial == 1 else {
            throw ModelFileError(
                .unsupported, file: fields.path, item: "partial_rotary_factor",
                "\(partial) is not supported in this family, only 1")
        }
        let rotated = Double(headDimension) * partial
        guard rotated >= 1, rotated <= Double(headDimension) else {
            throw fields.fault(
                "partial_rotary_factor",
                "\(partial) leaves nothing of \(headDimension) dimensions, or more than all")
        }
        return RopeConfig(theta: theta, rotaryDimension: Int(rotated))
    }

    private func scale(_ config: inout RopeConfig, _ members: inout Members) throws {
        let type = try members.fields.optionalString("rope_type")
        let olderType = try members.fields.optionalString("type")
        // transformers writes both when it has renamed an older kind.
        if let type, let olderType, type != olderType,
            !(isPhi && type == "longrope" && ["su", "yarn"].contains(olderType))
        {
            throw members.fault("type", "\(olderType) differs from rope_type \(type)")
        }
        var kind = type ?? olderType ?? "default"
        if isPhi, kind == "su" || kind == "yarn" { kind = "longrope" }
        switch (kind, isPhi) {
        case ("default", _):
            break
        case ("longrope", _):
            try longRope(&config, &members)
        case ("linear", false):
            config.scaling = .linear(factor: try members.positive("factor"))
        case ("dynamic", false):
            // Changes sequences longer than max_position_embeddings alone, and those are refused.
            _ = try members.positive("factor")
        case ("llama3", false):
            let low = try members.positive("low_freq_factor")
            let high = try members.positive("high_freq_factor")
            guard low < high else {
                throw members.fault(
                    "low_freq_factor", "\(low) is not below high_freq_factor \(high)")
            }
            config.scaling = .llama3(
                factor: try members.positive("factor"), lowFrequencyFactor: low,
                highFrequencyFactor: high,
                originalMaximumPositions: members.originalMaximumPositions)
        case ("yarn", false):
            try yarn(&config, &members)
        case ("factors", false):
            // Written by loraq for GGUF files, which carry Llama 3.1's scaling as a tensor.
            config.scaling = .factors(try members.factors("factors", count: config.pairCount))
        default:
            throw ModelFileError(
                .unsupported, file: members.fields.path, item: "\(members.key).rope_type",
                "\(kind) is not supported; "
                    + (isPhi
                        ? "default and longrope"
                        : "default, linear, dynamic, llama3, yarn and longrope")
                    + " are")
        }
    }

    /// Peng et al. 2023. Without `attention_factor` the factor is the paper's, or DeepSeek's ratio of two `mscale`s.
    private func yarn(_ config: inout RopeConfig, _ members: inout Members) throws {
        let original = members.originalMaximumPositions
        let factor =
            try members.optionalPositive("factor")
            ?? Double(maximumPositions) / Double(original)
        let stated = try members.optionalPositive("attention_factor")
        let mscale = try members.fields.optionalNumber("mscale") ?? 0
        let mscaleAll = try members.fields.optionalNumber("mscale_all_dim") ?? 0
        func magnitude(_ scale: Double) -> Double {
            factor <= 1 ? 1 : 0.1 * scale * log(factor) + 1
        }
        config.attentionFactor =
            stated
            ?? (mscale != 0 && mscaleAll != 0
                ? magnitude(mscale) / magnitude(mscaleAll) : magnitude(1))
        // transformers takes 0 for an absent number here.
        let fast = try members.fields.optionalNumber("beta_fast") ?? 0
        let slow = try members.fields.optionalNumber("beta_slow") ?? 0
        let bounds = (fast == 0 ? 32 : fast, slow == 0 ? 1 : slow)
        guard bounds.1 > 0, bounds.0 >= bounds.1 else {
            throw members.fault(
                "beta_fast", "\(bounds.0) is below beta_slow \(bounds.1), or not positive")
        }
        config.scaling = .yarn(
            factor: factor, betaFast: bounds.0, betaSlow: bounds.1,
            originalMaximumPositions: original,
            truncates: try members.fields.optionalFlag("truncate") ?? true)
        members.fields.ignore(["finetuned"])
    }

    /// Ding et al. 2024. Without `attention_factor` the factor follows from how much longer sequences may be.
    private func longRope(_ config: inout RopeConfig, _ members: inout Members) throws {
        let original = members.originalMaximumPositions
        let factor =
            try members.optionalPositive("factor")
            ?? Double(maximumPositions) / Double(original)
        config.attentionFactor =
            try members.optionalPositive("attention_factor")
            ?? (factor <= 1 ? 1 : (1 + log(factor) / log(Double(original))).squareRoot())
        config.scaling = .longRope(
            short: try members.factors("short_factor", count: config.pairCount),
            long: try members.factors("long_factor", count: config.pairCount),
            originalMaximumPositions: original)
    }

    /// The members of the object that describes the rotation; errors name them under its key.
    private struct Members {
        var fields: ConfigFields
        let key: String
        var originalMaximumPositions = 0

        init(fields: ConfigFields, key: String) {
            self.fields = fields
            self.key = key
        }

        func fault(_ name: String, _ reason: String) -> ModelFileError {
            fields.fault("\(key).\(name)", reason)
        }

        /// The member or what stands beside the object; they must not contradict each other.
        mutating func same(_ name: String, _ outer: Double?, isSize: Bool = false) throws -> Double?
        {
            let inner =
                isSize
                ? try fields.optionalSize(name, limit: 1 << 30).map(Double.init)
                : try fields.optionalNumber(name)
            if let outer, let inner, outer != inner {
                throw fields.fault(name, "\(outer) differs from \(key)'s \(inner)")
            }
            return inner ?? outer
        }

        mutating func optionalPositive(_ name: String) throws -> Double? {
            guard let value = try fields.optionalNumber(name) else { return nil }
            guard value > 0 else { throw fault(name, "must be a positive number") }
            return value
        }

        mutating func positive(_ name: String) throws -> Double {
            guard let value = try optionalPositive(name) else {
                throw fault(name, "must be a positive number")
            }
            return value
        }

        mutating func factors(_ name: String, count: Int) throws -> [Float] {
            let values = fields.value(name)?.array ?? []
            let factors = values.compactMap(\.double).map { Float($0) }
            guard factors.count == count, factors.count == values.count,
                factors.allSatisfy({ $0.isFinite && $0 > 0 })
            else { throw fault(name, "must be \(count) positive numbers") }
            return factors
        }

        func refuseUnread() throws {
            do { try fields.refuseUnread() } catch let error as ModelFileError {
                throw ModelFileError(
                    error.code, file: error.file, item: "\(key).\(error.item ?? "")", error.reason)
            }
        }
    }
}
