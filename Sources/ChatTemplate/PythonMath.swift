import Glibc

/// The few functions of the C library that are needed.
enum PythonMath {
    static func power(_ base: Double, _ exponent: Double) -> Double { pow(base, exponent) }

    /// `printf`'s `%.*f`, `%.*e` or `%.*g`.
    static func formatted(_ value: Double, _ type: UInt8, precision: Int) -> String {
        let format = "%.*" + String(decoding: [type], as: UTF8.self)
        var buffer = [CChar](repeating: 0, count: 400 + max(0, precision))
        let length = withVaList([Int32(precision), value]) { arguments in
            vsnprintf(&buffer, buffer.count, format, arguments)
        }
        guard length > 0 else { return "" }
        return String(
            decoding: buffer.prefix(min(Int(length), buffer.count - 1)).map {
                UInt8(bitPattern: $0)
            },
            as: UTF8.self)
    }
}
