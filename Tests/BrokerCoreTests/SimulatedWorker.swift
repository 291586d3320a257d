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
    /// Tasks sent since HELLO, by class; what it said it held counts.
    var received: [String: Int] = [:]
    var classes: [AttemptKey: String] = [:]
    var helloNumber = 0
    /// Told to end what it holds, take nothing new, and go.
    var isDraining = false

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
        isDraining = false
        stoppedUntil = 0
        held = []
        spool = []
        classes = [:]
    }

    /// Credit after HELLO: a total, in which what it said it held counts as sent.
    mutating func welcome(_ welcome: Welcome) {
        session = welcome.session
        let drop = Set(welcome.drop)
        let all = holding
        held.removeAll { drop.contains($0.assignment.key) }
        spool.removeAll { drop.contains($0.key) }
        credit = ["sequence": sequences, "job": 1]
        received = [:]
        for key in all {
            let name = classes[key] ?? "sequence"
            received[name, default: 0] += 1
            // What has ended takes no room any more.
            if !held.contains(where: { $0.assignment.key == key }) {
                credit[name, default: 0] += 1
            }
        }
    }

    /// Takes note of a task that was sent; says so if there was no room for it.
    mutating func overload(by assignment: Assignment) -> String? {
        let name = assignment.resourceClass
        classes[assignment.key] = name
        received[name, default: 0] += 1
        let (given, said) = (received[name] ?? 0, credit[name] ?? 0)
        return given > said
            ? "\(instance) was sent \(given) tasks of class \(name), and had said \(said)" : nil
    }

    mutating func release(_ key: AttemptKey, kind: String) {
        credit[kind == "infer" ? "sequence" : "job", default: 0] += 1
    }
}
