import Testing

@testable import ModelFiles

@Suite struct FloatFormatTests {
    @Test func everyHalfSurvives() {
        for bits in UInt16.min...UInt16.max {
            let value = FloatFormat.float(float16: bits)
            if value.isNaN {
                #expect(Float16(bitPattern: bits).isNaN)
            } else {
                #expect(value.bitPattern == Float(Float16(bitPattern: bits)).bitPattern)
                #expect(FloatFormat.float16(value) == bits)
            }
        }
    }

    @Test func roundsAsHardwareDoes() {
        var state: UInt32 = 1
        for _ in 0..<200_000 {
            state = state &* 1_664_525 &+ 1_013_904_223
            let value = Float(bitPattern: state)
            guard !value.isNaN else { continue }
            #expect(FloatFormat.float16(value) == Float16(value).bitPattern)
            // Nearest bfloat16, ties to even: compare with both neighbors.
            let rounded = FloatFormat.bfloat16(value)
            let low = Float(bitPattern: value.bitPattern & 0xFFFF_0000)
            guard low.isFinite else { continue }
            let high = Float(bitPattern: (value.bitPattern & 0xFFFF_0000) &+ 0x1_0000)
            guard high.isFinite else { continue }
            let toLow = (Double(value) - Double(low)).magnitude
            let toHigh = (Double(high) - Double(value)).magnitude
            if toLow < toHigh { #expect(rounded == UInt16(low.bitPattern >> 16)) }
            if toHigh < toLow { #expect(rounded == UInt16(high.bitPattern >> 16)) }
            if toLow == toHigh { #expect(rounded & 1 == 0) }
        }
        #expect(FloatFormat.bfloat16(.nan) == 0x7FC0)
        #expect(FloatFormat.bfloat16(.infinity) == 0x7F80)
        #expect(FloatFormat.bfloat16(-Float.infinity) == 0xFF80)
        #expect(FloatFormat.bfloat16(Float.greatestFiniteMagnitude) == 0x7F80)
    }
}
