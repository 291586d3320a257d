import BrokerCore
import Glibc
import LinuxSystem
import Logging
import Testing
import WireProtocol
import ZeroMQ

@testable import Broker

/// A supervisor over plugins that are shell scripts.
private final class Workshop {
    let folder: TemporaryFolder
    let home: BrokerHome
    var supervisor: Supervisor
    var poller = Poller()

    init() throws {
        folder = try TemporaryFolder()
        home = BrokerHome(root: folder.path)
        try home.prepare()
        supervisor = try Self.supervisor(home, kills: kills)
        poller.add(descriptor: supervisor.descriptor)
    }

    /// What the kernel says of its kills.
    let kills = FakeWorker.Counter()

    static func supervisor(
        _ home: BrokerHome, kills: FakeWorker.Counter = FakeWorker.Counter()
    ) throws -> Supervisor {
        var log = Logger(label: "test")
        log.logLevel = .critical
        let settings = Supervisor.Settings(
            home: home, programDirectory: "/nonexistent", environment: ["PATH": "/usr/bin:/bin"],
            searchPath: "/usr/bin:/bin", nodes: [[0, 1, 2, 3]], memoryBytes: 1_000_000,
            outOfMemoryKills: { kills.count }, stopGrace: .milliseconds(300))
        return try Supervisor(settings: settings, log: log)
    }

    func addPlugin(
        _ name: String, script: String, extra: String = "", classes: [String] = ["job"]
    ) throws {
        let directory = "\(home.workers)/\(name)"
        let kinds = classes.map { #"{"name": "\#(name)-\#($0)", "class": "\#($0)"}"# }
        try DurableFile.createDirectories(directory)
        try DurableFile.write("#!/bin/sh\n\(script)\n", to: "\(directory)/run", mode: 0o700)
        try DurableFile.write(
            """
            {"name": "\(name)", "version": "1", "protocol": "LQP/1", "exec": ["./run"],
             "kinds": [\(kinds.joined(separator: ","))]\(extra)}
            """, to: "\(directory)/worker.json")
    }

    func begin(adopting: [ProcessRecord] = []) {
        supervisor.begin(
            PluginCatalog(searching: [home.workers]), adopting: adopting, now: .now())
    }

    /// Waits for the next end of a process.
    func nextExit() throws -> ProcessExit {
        let deadline = MonotonicTime.now() + .seconds(20)
        while MonotonicTime.now() < deadline {
            _ = try poller.wait(atMost: .milliseconds(20))
            supervisor.reap(now: .now())
            supervisor.tick(now: .now())
            for news in supervisor.takeNews() {
                if case .exited(let exit) = news { return exit }
            }
        }
        throw SystemError(operation: "see a process end", code: ETIMEDOUT)
    }

    func started() -> [ProcessRecord] {
        supervisor.takeNews().compactMap { news in
            if case .started(let record) = news { record } else { nil }
        }
    }

    deinit { for slot in supervisor.slots.keys { supervisor.kill(slot) } }
}

/// What the first writer of a FIFO says, within 20 seconds.
private func line(fromFIFO descriptor: Int32) throws -> String {
    var ready = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    try #require(poll(&ready, 1, 20_000) == 1)
    var bytes = [UInt8](repeating: 0, count: 64)
    let count = read(descriptor, &bytes, bytes.count)
    return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
}

/// Waits until a process, none of our own, is gone or a zombie: nothing announces that.
private func isGone(_ pid: Int32) -> Bool {
    let deadline = MonotonicTime.now() + .seconds(20)
    while MonotonicTime.now() < deadline {
        guard let ticks = HostResources.startTicks(pid: Int(pid)),
            ProcessSpawner.isAlive(pid: pid, startTicks: ticks)
        else { return true }
        usleep(1_000)
    }
    return false
}

@Suite(.serialized) struct SupervisorTests {
    @Test("KINDS 20: a killed worker is seen at once and started again")
    func aKilledWorkerIsSeenAtOnceAndStartedAgain() throws {
        let shop = try Workshop()
        try shop.addPlugin("w", script: "echo hello from here; exec sleep 1000")
        shop.begin()
        let record = try #require(shop.started().first)
        #expect(record.instance == "w-1" && record.startTicks > 0)
        shop.supervisor.isReady(instance: "w-1", pid: record.pid, startTicks: record.startTicks)
        kill(record.pid, SIGKILL)
        let exit = try shop.nextExit()
        #expect(exit.status == .signaled(SIGKILL) && !exit.isExpected)
        #expect(exit.instance == "w-1" && exit.pid == record.pid && exit.peakBytes ?? 0 > 0)
        guard case .backoff(let until)? = shop.supervisor.slots["w-1"]?.phase else {
            Issue.record("not in backoff")
            return
        }
        shop.supervisor.tick(now: until)
        #expect(shop.started().map(\.instance) == ["w-1"])
    }

    @Test func aWorkerThatDiesAtItsStartWaitsLongerAndBlocksNobody() throws {
        let shop = try Workshop()
        try shop.addPlugin("bad", script: "echo no such thing >&2; exit 7")
        try shop.addPlugin("good", script: "exec sleep 1000")
        shop.begin()
        #expect(shop.started().map(\.instance) == ["bad-1", "good-1"])
        var waits: [Duration] = []
        for _ in 0..<4 {
            let exit = try shop.nextExit()
            #expect(exit.instance == "bad-1" && exit.status == .exited(7))
            #expect(exit.lastLog.contains("no such thing"))
            let now = MonotonicTime.now()
            guard case .backoff(let until)? = shop.supervisor.slots["bad-1"]?.phase else { return }
            waits.append(until - now)
            shop.supervisor.tick(now: until)
        }
        for (earlier, later) in zip(waits, waits.dropFirst()) { #expect(later > earlier) }
        #expect(shop.supervisor.slots["good-1"]?.phase.isRunning == true)
    }

    @Test(
        "KINDS 20: a worker that the kernel killed for want of memory is told from one that somebody killed"
    )
    func anOutOfMemoryKillIsNamed() throws {
        let shop = try Workshop()
        try shop.addPlugin("w", script: "echo working; exec sleep 1000")
        shop.begin()
        for isOutOfMemory in [false, true] {
            let record = try #require(shop.started().last)
            if isOutOfMemory { shop.kills.add() }
            kill(record.pid, SIGKILL)
            let exit = try shop.nextExit()
            #expect(exit.isOutOfMemory == isOutOfMemory && exit.peakBytes ?? 0 > 0)
            #expect(shop.supervisor.slots["w-1"]?.lastExit?.contains("memory") == isOutOfMemory)
            guard case .backoff(let until)? = shop.supervisor.slots["w-1"]?.phase else {
                Issue.record("not in backoff")
                return
            }
            shop.supervisor.tick(now: until)
        }
    }

    @Test func aWorkerThatNeverSaysHelloIsEnded() throws {
        let shop = try Workshop()
        try shop.addPlugin("mute", script: "exec sleep 1000", extra: #", "ready_timeout_ms": 50"#)
        shop.begin()
        let exit = try shop.nextExit()
        #expect(exit.status == .signaled(SIGKILL))
    }

    @Test func livingWorkersAreAdoptedAndNotStartedTwice() throws {
        let shop = try Workshop()
        try shop.addPlugin("w", script: "exec sleep 1000")
        shop.begin()
        let record = try #require(shop.started().first)
        // As after a SIGKILL of the broker: another supervisor, told by the store.
        let second = try Workshop.supervisor(shop.home)
        second.begin(
            PluginCatalog(searching: [shop.home.workers]), adopting: [record], now: .now())
        let news = second.takeNews()
        #expect(news.count == 1)
        if case .adopted(let adopted)? = news.first { #expect(adopted == record) }
        #expect(second.slots["w-1"]?.process?.pid == record.pid)
        // Its end is seen, and that its status is not known is said.
        kill(record.pid, SIGKILL)
        var poller = Poller()
        poller.add(descriptor: second.descriptor)
        #expect(try poller.wait(atMost: .seconds(20)) == 1)
        second.reap(now: .now())
        guard case .exited(let exit)? = second.takeNews().first else {
            Issue.record("no exit")
            return
        }
        #expect(exit.instance == "w-1")
    }

    @Test func aRecordOfAnotherProcessIsNotAdopted() throws {
        let shop = try Workshop()
        try shop.addPlugin("w", script: "exec sleep 1000")
        let mine = ProcessRecord(
            instance: "w-1", plugin: "w", pid: getpid(), startTicks: 1, logPath: "/dev/null",
            startedAt: 0)
        shop.begin(adopting: [mine])
        let news = shop.supervisor.takeNews()
        guard case .exited(let exit)? = news.first, case .started? = news.last else {
            Issue.record("\(news)")
            return
        }
        #expect(exit.status == .unknown)
    }

    @Test("KINDS 21: stopping ends whole groups without zombies")
    func stoppingEndsWholeGroupsWithoutZombies() throws {
        let shop = try Workshop()
        let path = "\(shop.folder.path)/child"
        try #require(mkfifo(path, 0o600) == 0)
        let fifo = open(path, O_RDWR)
        defer { close(fifo) }
        // A child of the worker that ignores SIGTERM, and a worker that does too.
        try shop.addPlugin(
            "w",
            script: """
                trap '' TERM
                sh -c 'trap "" TERM; while :; do sleep 0.1; done' &
                echo $! > "\(shop.folder.path)/child"
                while :; do sleep 0.1; done
                """)
        shop.begin()
        let record = try #require(shop.started().first)
        let child = try #require(Int32(try line(fromFIFO: fifo).filter(\.isNumber)))
        shop.supervisor.stopAll(now: .now())
        let exit = try shop.nextExit()
        #expect(exit.isExpected && exit.status == .signaled(SIGKILL))
        #expect(shop.supervisor.isIdle)
        #expect(isGone(child))
        #expect(HostResources.startTicks(pid: Int(record.pid)) == nil, "a zombie was left")
    }

    @Test func aPluginOfTwoClassesGetsTwoWorkersOnCoresOfTheirOwn() throws {
        let shop = try Workshop()
        try shop.addPlugin("w", script: "exec sleep 1000", classes: ["sequence", "job"])
        try shop.addPlugin("x", script: "exec sleep 1000", extra: #", "instances": 1"#)
        shop.begin()
        #expect(shop.started().map(\.instance) == ["w-1", "w-2", "x-1"])
        let cores = ["w-1", "w-2", "x-1"].map { shop.supervisor.slots[$0]?.cpus ?? [] }
        #expect(cores.allSatisfy { !$0.isEmpty } && Set(cores.joined()) == [0, 1, 2, 3])
        #expect(cores.joined().count == 4, "no core twice: \(cores)")
    }

    @Test func scalingStartsAndNamesTheSurplus() throws {
        let shop = try Workshop()
        try shop.addPlugin("w", script: "exec sleep 1000", extra: #", "instances": 0"#)
        shop.begin()
        #expect(shop.started().isEmpty)
        #expect(shop.supervisor.scale("w", to: 2, now: .now()) == [])
        #expect(shop.started().map(\.instance) == ["w-1", "w-2"])
        // The one that stays has now all cores, and is started again with them.
        #expect(shop.supervisor.scale("w", to: 1, now: .now()) == ["w-2", "w-1"])
        #expect(shop.supervisor.scale("nobody", to: 1, now: .now()) == nil)
    }

    @Test func theEnvironmentIsMinimalAndTellsTheWorkerItsPlace() throws {
        let shop = try Workshop()
        try shop.addPlugin(
            "w", script: #"env | sort; pwd; exit 0"#,
            extra: #", "env": {"MINE": "a b"}, "threads": 2, "memory_bytes": 1000"#)
        shop.begin()
        _ = try shop.nextExit()
        let log = String(
            decoding: try FilePath.read(shop.home.workerLog("w-1")), as: UTF8.self)
        for line in [
            "MINE=a b", "LORAQ_INSTANCE=w-1", "LORAQ_PLUGIN=w", "LORAQ_THREADS=2",
            "LORAQ_CPUS=0,1", "LORAQ_MEMORY_BYTES=1000", "\(shop.home.workers)/w",
        ] {
            #expect(log.split(separator: "\n").contains(Substring(line)), "\(line) in \(log)")
        }
        #expect(!log.contains("HOSTNAME"))
    }
}

@Suite struct InstanceCountTests {
    private func manifest(_ extra: String = "", classes: [String] = ["sequence", "job"]) throws
        -> WorkerManifest
    {
        let kinds = classes.enumerated().map { #"{"name": "k\#($0)", "class": "\#($1)"}"# }
        return try WorkerManifest(
            json: Array(
                #"{"name": "w", "version": "1", "protocol": "LQP/1", "exec": ["./run"], "kinds": [\#(kinds.joined(separator: ","))]\#(extra)}"#
                    .utf8))
    }

    @Test func onePerNodeAndTwoWhereTwoClassesWouldTakeTurns() throws {
        func count(_ nodes: [[Int]], _ manifest: WorkerManifest, memory: Int? = nil) -> Int {
            InstanceCount(nodes: nodes, memoryBytes: memory).standard(for: manifest)
        }
        #expect(count([[0, 1], [2, 3]], try manifest()) == 2)
        #expect(count([[0], [1], [2]], try manifest(classes: ["job"])) == 3)
        #expect(count([[0, 1]], try manifest()) == 2)
        #expect(count([[0, 1]], try manifest(classes: ["job", "job"])) == 1)
        #expect(count([[0]], try manifest()) == 1)
        // Two of two threads each would share the cores.
        #expect(count([[0, 1]], try manifest(#", "threads": 2"#)) == 1)
        #expect(count([[0, 1]], try manifest(#", "memory_bytes": 600"#), memory: 1_000) == 1)
        #expect(count([[0, 1]], try manifest(#", "memory_bytes": 500"#), memory: 1_000) == 2)
    }
}

@Suite struct CoreShareTests {
    @Test func coresAreDisjointWhileTheyLast() {
        let share = CoreShare(
            [.init(instance: "a", threads: 2), .init(instance: "b"), .init(instance: "c")],
            over: Array(0..<8))
        #expect(share.cpus["a"] == [0, 1])
        #expect(share.cpus["b"] == [2, 3, 4])
        #expect(share.cpus["c"] == [5, 6, 7])
    }

    @Test func tooFewCoresAreShared() {
        let share = CoreShare(
            (0..<3).map { .init(instance: "\($0)", threads: nil) }, over: [4, 5])
        #expect(share.cpus["0"] == [4] && share.cpus["1"] == [5] && share.cpus["2"] == [4])
    }
}

@Suite struct WorkerLogTests {
    @Test func logsAreCutAndTheirEndIsKept() throws {
        let folder = try TemporaryFolder()
        let path = try folder.write("w.log", String(repeating: "line\n", count: 1_000))
        WorkerLog.rotate(path, maximumBytes: 10_000)
        #expect(try FilePath.size(of: path) == 5_000)
        WorkerLog.rotate(path, maximumBytes: 1_000)
        #expect(try FilePath.size(of: path) == 0)
        #expect(try FilePath.size(of: path + ".1") == 5_000)
    }

    @Test func theTailIsWholeLines() throws {
        let folder = try TemporaryFolder()
        let path = try folder.write("w.log", "one\ntwo\nthree\n")
        #expect(WorkerLog.tail(path, limit: 8) == "three\n")
        #expect(WorkerLog.tail(path, from: 4, limit: 100) == "two\nthree\n")
        #expect(WorkerLog.tail(folder.path + "/none", limit: 8) == "")
    }
}
