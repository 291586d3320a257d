/// A trie over bytes: first child and next sibling per node.
struct ByteTrie: Sendable {
    private var labels: [UInt8] = [0]
    private var firstChild: [Int32] = [-1]
    private var sibling: [Int32] = [-1]
    private var values: [Int32] = [-1]
    /// The child of the root for each byte.
    private var roots = [Int32](repeating: -1, count: 256)

    var isEmpty: Bool { labels.count == 1 }

    /// Sets the value of a key that is not empty.
    mutating func insert(_ key: ArraySlice<UInt8>, value: Int32) {
        var node = 0
        for byte in key {
            var child = node == 0 ? roots[Int(byte)] : firstChild[node]
            if node != 0 {
                while child >= 0, labels[Int(child)] != byte { child = sibling[Int(child)] }
            }
            if child < 0 {
                child = Int32(labels.count)
                labels.append(byte)
                firstChild.append(-1)
                values.append(-1)
                if node == 0 {
                    sibling.append(-1)
                    roots[Int(byte)] = child
                } else {
                    sibling.append(firstChild[node])
                    firstChild[node] = child
                }
            }
            node = Int(child)
        }
        if node != 0 { values[node] = value }
    }

    @inline(__always)
    func mayStart(_ byte: UInt8) -> Bool { roots[Int(byte)] >= 0 }

    /// Calls `body` with the value and end of each key that begins at `start`, shortest first.
    @inline(__always)
    func forEachPrefix(of bytes: [UInt8], from start: Int, _ body: (Int32, Int) -> Void) {
        var node = 0
        var position = start
        while position < bytes.count {
            let byte = bytes[position]
            var child = node == 0 ? roots[Int(byte)] : firstChild[node]
            if node != 0 {
                while child >= 0, labels[Int(child)] != byte { child = sibling[Int(child)] }
            }
            if child < 0 { return }
            node = Int(child)
            position += 1
            if values[node] >= 0 { body(values[node], position) }
        }
    }

    /// The longest key that begins at `start`.
    @inline(__always)
    func longestMatch(in bytes: [UInt8], at start: Int) -> (value: Int32, end: Int)? {
        var found: (value: Int32, end: Int)?
        forEachPrefix(of: bytes, from: start) { found = ($0, $1) }
        return found
    }
}
