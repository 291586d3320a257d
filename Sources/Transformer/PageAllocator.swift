/// Hands out pages of KV memory and counts who holds them.
///
/// A page keeps 64 positions of one sequence, in all layers and heads. Sequences that begin with the
/// same tokens may share whole pages: each holder retains them. Not thread-safe: one scheduler owns it.
public struct PageAllocator {
    public let pageCount: Int
    private var free: [Int32]
    private var holders: [Int32]

    /// Positions of one page.
    public static let positionsPerPage = 64

    public init(pageCount: Int) {
        self.pageCount = pageCount
        free = (0..<Int32(pageCount)).reversed()
        holders = [Int32](repeating: 0, count: pageCount)
    }

    public var freeCount: Int { free.count }

    /// A page held once, or nil when all are in use.
    public mutating func allocate() -> Int32? {
        guard let page = free.popLast() else { return nil }
        holders[Int(page)] = 1
        return page
    }

    /// One more holder of a page that is in use.
    public mutating func retain(_ page: Int32) {
        assert(holders[Int(page)] > 0)
        holders[Int(page)] += 1
    }

    /// One holder less; the last one frees the page.
    public mutating func release(_ page: Int32) {
        assert(holders[Int(page)] > 0)
        holders[Int(page)] -= 1
        if holders[Int(page)] == 0 { free.append(page) }
    }

    public func holderCount(_ page: Int32) -> Int { Int(holders[Int(page)]) }

    /// Pages that a sequence of so many positions needs.
    public static func pages(forPositions count: Int) -> Int {
        (count + positionsPerPage - 1) / positionsPerPage
    }
}
