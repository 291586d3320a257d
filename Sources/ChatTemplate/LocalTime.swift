import Glibc

/// A wall-clock time without a zone, for `strftime_now`.
public struct LocalTime: Sendable, Equatable {
    public var year: Int
    public var month: Int
    public var day: Int
    public var hour: Int
    public var minute: Int
    public var second: Int

    public init(
        year: Int, month: Int, day: Int, hour: Int = 0, minute: Int = 0, second: Int = 0
    ) {
        self.year = year
        self.month = month
        self.day = day
        self.hour = hour
        self.minute = minute
        self.second = second
    }

    /// From `2026-03-05T14:07:09` (or only the date; a fraction or zone after it is not read).
    public init?(iso8601 text: String) {
        let parts = text.split(whereSeparator: { "-T: .+Z".contains($0) }).map { Int($0) }
        guard parts.count >= 3, let year = parts[0], let month = parts[1], let day = parts[2],
            (1...9999).contains(year), (1...12).contains(month), (1...31).contains(day)
        else { return nil }
        func part(_ index: Int) -> Int { index < parts.count ? parts[index] ?? 0 : 0 }
        self.init(
            year: year, month: month, day: day, hour: min(part(3), 23), minute: min(part(4), 59),
            second: min(part(5), 60))
    }

    /// Now, in the zone of the machine.
    public static func now() -> LocalTime { LocalTime(secondsSince1970: time(nil)) }

    /// A moment in the zone of the machine.
    public init(secondsSince1970: Int) {
        var seconds = secondsSince1970
        var parts = tm()
        localtime_r(&seconds, &parts)
        self.init(
            year: Int(parts.tm_year) + 1900, month: Int(parts.tm_mon) + 1, day: Int(parts.tm_mday),
            hour: Int(parts.tm_hour), minute: Int(parts.tm_min), second: Int(parts.tm_sec))
    }

    /// C's `strftime` in the C locale.
    func formatted(_ format: [UInt8]) -> [UInt8] {
        var parts = tm()
        parts.tm_year = Int32(year - 1900)
        parts.tm_mon = Int32(month - 1)
        parts.tm_mday = Int32(day)
        parts.tm_hour = Int32(hour)
        parts.tm_min = Int32(minute)
        parts.tm_sec = Int32(second)
        parts.tm_isdst = -1
        let (weekday, dayOfYear) = calendarPlace()
        parts.tm_wday = Int32(weekday)
        parts.tm_yday = Int32(dayOfYear)
        // The added character tells an empty result from a buffer that is too small.
        let pattern = (format.filter { $0 != 0 } + [UInt8(ascii: "|"), 0]).map {
            CChar(bitPattern: $0)
        }
        var buffer = [CChar](repeating: 0, count: 4096)
        let length = strftime(&buffer, buffer.count, pattern, &parts)
        guard length > 0 else { return [] }
        return buffer[..<(length - 1)].map { UInt8(bitPattern: $0) }
    }

    /// Days since Sunday and since the first of January.
    private func calendarPlace() -> (weekday: Int, dayOfYear: Int) {
        let isLeap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
        let starts = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334]
        let place = max(0, min(month - 1, 11))
        let dayOfYear = starts[place] + day - 1 + (isLeap && month > 2 ? 1 : 0)
        let before = year - 1
        let days = before * 365 + before / 4 - before / 100 + before / 400 + dayOfYear
        return ((days + 1) % 7, dayOfYear)
    }
}
