import BrokerCore

/// Numbers for the workers' routing ids, as the core knows them.
struct PeerTable {
    private var numbers: [[UInt8]: PeerID] = [:]
    private var routingIDs: [PeerID: [UInt8]] = [:]
    private var last: UInt64 = 0
    private static let maximum = 16_384

    /// The number of a routing id; a new one for a peer that is not known.
    mutating func number(of routingID: [UInt8]) -> PeerID {
        if let known = numbers[routingID] { return known }
        if numbers.count >= Self.maximum {
            // Peers that only ever knocked; whoever is at work says HELLO again.
            numbers.removeAll()
            routingIDs.removeAll()
        }
        last += 1
        let peer = PeerID(last)
        numbers[routingID] = peer
        routingIDs[peer] = routingID
        return peer
    }

    func peer(_ number: PeerID) -> Peer? {
        routingIDs[number].map { Peer(channel: .dispatch, routingID: $0) }
    }

    mutating func forget(_ number: PeerID) {
        guard let routingID = routingIDs.removeValue(forKey: number) else { return }
        numbers.removeValue(forKey: routingID)
    }
}
