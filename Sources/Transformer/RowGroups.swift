import Kernels

/// Rows of a batch that go through one adapter (or none): neighbors, so that a range names them.
struct RowGroup {
    let adapter: ServedAdapter?
    let rows: Range<Int>
}

/// A set of rows that move through the layers together.
struct RowSet {
    var count = 0
    /// Cover the rows in order.
    var groups: [RowGroup] = []
    var cacheRows = CacheRows()

    mutating func removeAll() {
        count = 0
        groups.removeAll(keepingCapacity: true)
        cacheRows.removeAll()
    }

    /// Adds rows at the end, joining the last group when the adapter is the same.
    mutating func append(
        positions: Range<Int>, pages: ArraySlice<Int32>, adapter: ServedAdapter?
    ) throws {
        try cacheRows.append(pages: pages, positions: positions)
        let end = count + positions.count
        if let last = groups.last, last.adapter === adapter {
            groups[groups.count - 1] = RowGroup(
                adapter: adapter, rows: last.rows.lowerBound..<end)
        } else {
            groups.append(RowGroup(adapter: adapter, rows: count..<end))
        }
        count = end
    }

    var hasAdapters: Bool { groups.contains { $0.adapter != nil } }
}
