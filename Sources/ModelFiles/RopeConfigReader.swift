import JSONModel

/// Reads both spellings of the rotation: `rope_theta` with `rope_scaling`, and `rope_parameters`.
enum RopeConfigReader {
    static func read(
        _ fields: inout ConfigFields, headDimension: Int, maximumPositions: Int,
        defaultTheta: Double = 10_000
    ) throws -> RopeConfig {
        let topTheta = try fields.optionalNumber("rope_theta")
        let newer = fields.value("rope_parameters")
        let older = fields.value("rope_scaling")
        if let newer, let older, newer != older {
            throw fields.fault("rope_parameters", "differs from rope_scaling; keep one of them")
        }
        let key = newer != nil ? "rope_parameters" : "rope_scaling"
        guard let value = newer ?? older else {
            return try config(
                fields, theta: topTheta ?? defaultTheta, headDimension: headDimension,
                scaling: .none)
        }
        guard let object = value.object else { throw fields.fault(key, "is no object") }
        var members = ConfigFields(object: object, path: fields.path)
        let innerTheta = try members.optionalNumber("rope_theta")
        if let topTheta, let innerTheta, topTheta != innerTheta {
            throw fields.fault("rope_theta", "\(topTheta) differs from \(key)'s \(innerTheta)")
        }
        try members.expect("partial_rotary_factor", 1)
        let scaling = try scaling(
            &members, key: key, headDimension: headDimension, maximumPositions: maximumPositions)
        do { try members.refuseUnread() } catch let error as ModelFileError {
            throw ModelFileError(
                error.code, file: error.file, item: "\(key).\(error.item ?? "")", error.reason)
        }
        return try config(
            fields, theta: innerTheta ?? topTheta ?? defaultTheta, headDimension: headDimension,
            scaling: scaling)
    }

    private static func config(
        _ fields: ConfigFields, theta: Double, headDimension: Int, scaling: RopeConfig.Scaling
    ) throws -> RopeConfig {
        guard theta > 0 else { throw fields.fault("rope_theta", "\(theta) is not positive") }
        return RopeConfig(theta: theta, rotaryDimension: headDimension, scaling: scaling)
    }

    private static func scaling(
        _ members: inout ConfigFields, key: String, headDimension: Int, maximumPositions: Int
    ) throws -> RopeConfig.Scaling {
        let type = try members.optionalString("rope_type")
        let olderType = try members.optionalString("type")
        if let type, let olderType, type != olderType {
            throw members.fault("\(key).type", "\(olderType) differs from rope_type \(type)")
        }
        switch type ?? olderType ?? "default" {
        case "default":
            return .none
        case "linear":
            return .linear(factor: try positive(&members, "factor", key))
        case "llama3":
            let low = try positive(&members, "low_freq_factor", key)
            let high = try positive(&members, "high_freq_factor", key)
            guard low < high else {
                throw members.fault(
                    "\(key).low_freq_factor", "\(low) is not below high_freq_factor \(high)")
            }
            let original = try members.optionalSize(
                "original_max_position_embeddings", limit: 1 << 30)
            return .llama3(
                factor: try positive(&members, "factor", key), lowFrequencyFactor: low,
                highFrequencyFactor: high, originalMaximumPositions: original ?? maximumPositions)
        case "factors":
            // Written by loraq for GGUF files, which carry Llama 3.1's scaling as a tensor.
            let values = members.value("factors")?.array ?? []
            let factors = values.compactMap(\.double).map { Float($0) }
            guard factors.count == headDimension / 2, factors.count == values.count,
                factors.allSatisfy({ $0.isFinite && $0 > 0 })
            else {
                throw members.fault(
                    "\(key).factors", "must be \(headDimension / 2) positive numbers")
            }
            return .factors(factors)
        case let other:
            throw ModelFileError(
                .unsupported, file: members.path, item: "\(key).rope_type",
                "\(other) is not supported; default, linear and llama3 are")
        }
    }

    private static func positive(
        _ members: inout ConfigFields, _ name: String, _ key: String
    ) throws -> Double {
        guard let value = try members.optionalNumber(name), value > 0 else {
            throw members.fault("\(key).\(name)", "must be a positive number")
        }
        return value
    }
}
