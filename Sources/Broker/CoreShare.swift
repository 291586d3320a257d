/// Shares the machine's cores out among workers, so that no two compute on the same one as long as
/// there are enough.
struct CoreShare: Sendable, Equatable {
    /// What an instance wants: threads stated by its manifest, or nil for an equal part of the rest.
    struct Wish: Sendable, Equatable {
        var instance: String
        var threads: Int?
    }

    private(set) var cpus: [String: [Int]] = [:]

    init(_ wishes: [Wish], over usable: [Int]) {
        guard !usable.isEmpty else { return }
        let stated = wishes.compactMap(\.threads).reduce(0, +)
        let open = wishes.filter { $0.threads == nil }.count
        let rest = max(0, usable.count - stated)
        var position = 0
        var openSeen = 0
        for wish in wishes {
            var count = wish.threads ?? 0
            if wish.threads == nil {
                // The first ones get what an equal part leaves over.
                count = rest / open + (openSeen < rest % open ? 1 : 0)
                openSeen += 1
            }
            count = min(max(1, count), usable.count)
            cpus[wish.instance] = (0..<count).map { usable[(position + $0) % usable.count] }
                .sorted()
            position += count
        }
    }

    /// The form of `LORAQ_CPUS`.
    static func text(_ cpus: [Int]) -> String { cpus.map(String.init).joined(separator: ",") }
}
