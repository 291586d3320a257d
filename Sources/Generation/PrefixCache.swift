import LinuxSystem
import Transformer

/// Pages of KV memory that outlive their sequence, found again by the tokens and the adapter that made them.
///
/// A tree: each node is one whole page, its key the page's tokens and the node before it. Keys and values have the same
/// bits whichever sequence computed them, so a page found here never changes an answer. The cache is one more holder of
/// each of its pages; those that nobody else holds are given back, the longest unused first, when memory is asked for.
///
/// Whoever holds a node's page holds the pages of all nodes before it too; `insert` sees to that.
struct PrefixCache {
    /// What computed the keys and values, besides the base model.
    struct Origin: Hashable {
        /// Nil: no adapter.
        private let adapter: ContentDigest?
        private let isLong: Bool

        /// Nil for an adapter without a digest, whose pages are not kept.
        ///
        /// - Parameter isLong: Whether the sequence turns by the frequencies of long sequences.
        init?(_ adapter: ServedAdapter?, isLong: Bool) {
            if let adapter, adapter.digest == nil { return nil }
            self.adapter = adapter?.digest
            self.isLong = isLong
        }
    }

    private struct Key: Hashable {
        let origin: Origin
        /// The node before; -1 for a first page.
        let parent: Int
        let tokens: ArraySlice<Int32>
    }

    private struct Node {
        let key: Key
        let page: Int32
        var childCount = 0
        var lastUse: Int
    }

    private var nodes: [Int: Node] = [:]
    private var index: [Key: Int] = [:]
    private var lastNode = 0
    private var clock = 0

    /// Pages in the tree.
    var pageCount: Int { nodes.count }

    /// The longest known beginning of `tokens`, at most `limit` pages.
    ///
    /// - Returns: Its pages, each retained once more, and its last node (-1: nothing known).
    mutating func match(
        _ tokens: [Int32], origin: Origin, limit: Int, _ allocator: inout PageAllocator
    ) -> (pages: [Int32], node: Int) {
        clock += 1
        var pages: [Int32] = []
        var last = -1
        while pages.count < limit,
            let node = index[Self.key(tokens, page: pages.count, origin: origin, parent: last)]
        {
            let page = nodes[node]!.page
            nodes[node]!.lastUse = clock
            allocator.retain(page)
            pages.append(page)
            last = node
        }
        return (pages, last)
    }

    /// Keeps a whole page that was just computed. If the tree has the same page already, the sequence goes over to that.
    ///
    /// - Parameters:
    ///   - page: Which page of the sequence.
    ///   - pages: The sequence's pages.
    ///   - parent: The node of the page before, -1 for the first page.
    /// - Returns: The page's node.
    mutating func insert(
        _ tokens: [Int32], page: Int, pages: inout [Int32], origin: Origin, parent: Int,
        _ allocator: inout PageAllocator
    ) -> Int {
        clock += 1
        let key = Self.key(tokens, page: page, origin: origin, parent: parent)
        if let node = index[key] {
            let known = nodes[node]!.page
            nodes[node]!.lastUse = clock
            if known != pages[page] {
                allocator.retain(known)
                allocator.release(pages[page])
                pages[page] = known
            }
            return node
        }
        lastNode += 1
        // A copy of its own: a slice would keep the whole sequence.
        let owned = Key(origin: origin, parent: parent, tokens: ArraySlice(Array(key.tokens)))
        allocator.retain(pages[page])
        nodes[lastNode] = Node(key: owned, page: pages[page], lastUse: clock)
        index[owned] = lastNode
        if parent >= 0 { nodes[parent]!.childCount += 1 }
        return lastNode
    }

    /// Pages that only the tree holds.
    func evictableCount(_ allocator: PageAllocator) -> Int {
        nodes.values.reduce(0) { $0 + (allocator.holderCount($1.page) == 1 ? 1 : 0) }
    }

    /// Gives the page back that has not been used for longest, of those that nobody else holds.
    ///
    /// - Returns: False if there is none.
    mutating func evict(_ allocator: inout PageAllocator) -> Bool {
        var oldest: (id: Int, use: Int)?
        for (id, node) in nodes
        where node.childCount == 0 && allocator.holderCount(node.page) == 1 {
            // The number breaks ties, so that the choice does not hang on a dictionary's order.
            if let known = oldest, (known.use, known.id) < (node.lastUse, id) { continue }
            oldest = (id, node.lastUse)
        }
        guard let id = oldest?.id, let node = nodes.removeValue(forKey: id) else { return false }
        index[node.key] = nil
        if node.key.parent >= 0 { nodes[node.key.parent]!.childCount -= 1 }
        allocator.release(node.page)
        return true
    }

    private static func key(
        _ tokens: [Int32], page: Int, origin: Origin, parent: Int
    ) -> Key {
        let size = PageAllocator.positionsPerPage
        return Key(
            origin: origin, parent: parent, tokens: tokens[page * size..<(page + 1) * size])
    }
}
