import ArgumentParser

/// Numbers that a person gives, checked where they are read: what comes out can be computed with.
enum Quantity {
    /// Seconds above 0 and below 1e9 (32 years), so that milliseconds of them are a whole number too.
    @Sendable static func seconds(_ text: String) throws -> Double {
        guard let value = Double(text), value > 0, value < 1e9 else {
            throw ValidationError("it must be a number of seconds above 0 and below 1,000,000,000.")
        }
        return value
    }

    static func whole(_ range: ClosedRange<Int>) -> @Sendable (String) throws -> Int {
        { text in
            guard let value = Int(text), range.contains(value) else {
                throw ValidationError("it must be a whole number \(bounds(range)).")
            }
            return value
        }
    }

    static func number(_ range: ClosedRange<Double>) -> @Sendable (String) throws -> Double {
        { text in
            guard let value = Double(text), range.contains(value) else {
                let (least, most) = (range.lowerBound, range.upperBound)
                throw ValidationError(
                    "it must be a number from \(shown(least)) to \(shown(most)).")
            }
            return value
        }
    }

    private static func bounds(_ range: ClosedRange<Int>) -> String {
        range.upperBound == .max
            ? "of at least \(range.lowerBound)"
            : "from \(range.lowerBound) to \(HumanText.count(range.upperBound))"
    }

    private static func shown(_ value: Double) -> String {
        value == value.rounded() ? HumanText.fixed(value, digits: 0) : "\(value)"
    }
}
