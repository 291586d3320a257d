import BrokerCore

/// A worker process of the simulation: takes tasks, makes headway, keeps results until they are acknowledged, and fails
/// in all the ways that processes fail. Reads no clock: the simulation moves it.
struct SimulatedWorker {
    struct Held {
        let assignment: Assignment
        var progress: Int64 = 0
        /// Headway after which it is done.
        let work: Int64
    }

    let instance: String
    let sequences: Int
    var pid: Int32 = 1
    var peer: PeerID
    var session: Token?
    var isAlive = false
    /// SIGSTOP: neither computes nor speaks until then.
    var stoppedUntil: Int64 = 0
    /// Obeys no cancel.
    var isDeaf = false
    var held: [Held] = []
    var spool: [AttemptResult] = []
    var credit: [String: Int] = [:]

    init(instance: String, sequences: Int, peer: PeerID) {
        self.instance = instance
        self.sequences = sequences
        self.peer = peer
    }

    var holding: [AttemptKey] { held.map(\.assignment.key) + spool.map(\.key) }

    mutating func start(peer: PeerID) {
        self.peer = peer
        pid += 1
        session = nil
        isAlive = true
        isDeaf = false
        stoppedUntil = 0
        held = []
        spool = []
    }

    /// Credit after HELLO: room for what it does not hold, beside what it holds.
    mutating func welcome(_ welcome: Welcome) {
        session = welcome.session
        let drop = Set(welcome.drop)
        let all = holding
        held.removeAll { drop.contains($0.assignment.key) }
        spool.removeAll { drop.contains($0.key) }
        credit = ["sequence": sequences, "job": 1]
        // Finished and dropped ones count as sent too, and take no room any more.
        for key in all
        where drop.contains(key) || !held.contains(where: { $0.assignment.key == key }) {
            credit["sequence", default: 0] += 1
            credit["job", default: 0] += 1
        }
    }

    mutating func release(_ key: AttemptKey, kind: String) {
        credit[kind == "infer" ? "sequence" : "job", default: 0] += 1
    }
}
