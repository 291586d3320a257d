/// Collects and prints the errors of one case.
final class VerificationReport {
    let name: String
    let verbose: Bool
    private(set) var passed = true
    private var compared = 0

    init(name: String, verbose: Bool) {
        self.name = name
        self.verbose = verbose
    }

    /// max|a - b| / max|b|; NaN when either holds one, infinite when the sizes differ.
    static func error(_ computed: [Float], _ expected: [Float]) -> Double {
        guard computed.count == expected.count, !expected.isEmpty else { return .infinity }
        var difference = 0.0
        var largest = 0.0
        for (a, b) in zip(computed, expected) {
            let distance = abs(Double(a) - Double(b))
            if distance.isNaN { return .nan }
            difference = max(difference, distance)
            largest = max(largest, abs(Double(b)))
        }
        if largest == 0 { return difference == 0 ? 0 : .infinity }
        return difference / largest
    }

    func compare(
        _ what: String, _ computed: [Float], _ expected: [Float], tolerance: Double
    ) {
        record(what, Self.error(computed, expected), tolerance: tolerance)
    }

    /// The worst of a group of tensors, each compared by itself.
    func compareGroup(
        _ what: String, _ tensors: [(name: String, computed: [Float], expected: [Float])],
        tolerance: Double
    ) {
        var worst = 0.0
        var worstName = ""
        for tensor in tensors {
            let error = Self.error(tensor.computed, tensor.expected)
            if verbose { record("\(what) \(tensor.name)", error, tolerance: tolerance) }
            if worstName.isEmpty || !(error <= worst) {
                worst = error
                worstName = tensor.name
            }
        }
        if worstName.isEmpty { return refuse("\(what): nothing to compare") }
        if !verbose {
            record("\(what), worst of \(tensors.count): \(worstName)", worst, tolerance: tolerance)
        }
    }

    func record(_ what: String, _ error: Double, tolerance: Double) {
        compared += 1
        // Written so that NaN fails.
        let isWithin = error <= tolerance
        if !isWithin { passed = false }
        print(
            "\(name)  \(what)  \(scientific(error)) \(isWithin ? "<=" : "ABOVE") \(scientific(tolerance))"
        )
    }

    func expectEqual(_ what: String, _ computed: [Int64], _ expected: [Int64], mustAgree: Bool) {
        compared += 1
        let agreeing = zip(computed, expected).reduce(0) { $0 + ($1.0 == $1.1 ? 1 : 0) }
        let isEqual = computed == expected
        if mustAgree, !isEqual { passed = false }
        let verdict = isEqual ? "equal" : mustAgree ? "DIFFERENT" : "different (not judged)"
        print("\(name)  \(what)  \(agreeing) of \(expected.count) tokens \(verdict)")
    }

    func refuse(_ message: String) {
        passed = false
        print("\(name)  REFUSED  \(message)")
    }

    func finish() {
        if compared == 0 { passed = false }
        print("\(name)  \(passed ? "passed" : "FAILED"), \(compared) comparisons")
    }

    private func scientific(_ value: Double) -> String {
        if !value.isFinite { return "\(value)" }
        if value == 0 { return "0" }
        var exponent = 0
        var mantissa = abs(value)
        while mantissa >= 10 {
            mantissa /= 10
            exponent += 1
        }
        while mantissa < 1 {
            mantissa *= 10
            exponent -= 1
        }
        return "\((mantissa * 10).rounded() / 10)e\(exponent)"
    }
}
