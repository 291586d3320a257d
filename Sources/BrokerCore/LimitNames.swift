extension Limits {
    /// The limits that a person may set, by name. The others are bound to one another or to the wire format.
    static let settable: [String: WritableKeyPath<Limits, Int> & Sendable] = [
        "unfinishedJobs": \.unfinishedJobs, "specBytesTotal": \.specBytesTotal,
        "parkedRequests": \.parkedRequests, "tenants": \.tenants,
        "referencesPerJob": \.referencesPerJob, "window": \.window,
        "loadingJobsPerQueue": \.loadingJobsPerQueue, "endedJobsKept": \.endedJobsKept,
        "artifacts": \.artifacts, "eventHistory": \.eventHistory,
        "evidenceBytes": \.evidenceBytes, "reorderWindow": \.reorderWindow,
        "maximumSkips": \.maximumSkips, "oldestFirstEvery": \.oldestFirstEvery,
        "bulkLines": \.bulkLines, "workers": \.workers, "heldPerWorker": \.heldPerWorker,
        "graceMilliseconds": \.graceMilliseconds,
        "cancelGraceMilliseconds": \.cancelGraceMilliseconds,
        "numericsUnavailableMilliseconds": \.numericsUnavailableMilliseconds,
        "maximumDeferMilliseconds": \.maximumDeferMilliseconds,
    ]

    public static var settableNames: [String] { settable.keys.sorted() }
    /// The largest value that a limit may be set to: no sum of some of them overflows.
    public static let largest = 1 << 40

    /// Sets a limit by its name.
    ///
    /// - Returns: False for a name that is not in `settableNames`, and for a value outside 1...`largest`.
    public mutating func set(_ name: String, to value: Int) -> Bool {
        guard let path = Self.settable[name], (1...Self.largest).contains(value) else {
            return false
        }
        self[keyPath: path] = value
        return true
    }
}
