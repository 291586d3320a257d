import Glibc
import JSONModel
import LinuxSystem
import LoraqClient
import WireProtocol

/// The checks of `loraq doctor`, from the machine up to the models.
struct Examination {
    let home: LoraqHome
    let installation: Installation
    let path: String?
    /// Nil where no client can be made for the home.
    var session: Session?
    /// Why none can be made.
    var fault = ""

    func all() -> [Finding] {
        var findings = [programs(), libraries(), processor(), memory(), openFiles()]
        findings += [folder(), disk(), socketPaths()]
        guard let session else {
            return findings + [
                .fail("broker", fault, "choose another home with --home or LORAQ_HOME")
            ]
        }
        let broker = broker(session)
        findings.append(broker)
        guard broker.verdict == .ok else { return findings }
        return findings + [sockets()] + workers(session) + [models(session)]
    }

    private func programs() -> Finding {
        let missing = ["loraqd", "lora-worker"].filter { installation.find($0, path: path) == nil }
        guard missing.isEmpty else {
            return .fail(
                "programs",
                "\(missing.joined(separator: " and ")) not found in \(installation.programs) or on PATH",
                "build with `make build`, or install with `make install`")
        }
        return .ok("programs", "loraq \(Loraq.version), loraqd and lora-worker found")
    }

    private func libraries() -> Finding {
        let version = ClientLibraries.messaging
        let parts = version.split(separator: ".").compactMap { Int($0) }
        guard parts.count == 3, (parts[0], parts[1]) >= (4, 3) else {
            return .fail(
                "libzmq", "version \(version), at least 4.3 is needed", "apt-get install libzmq5")
        }
        return .ok("libzmq", "version \(version)")
    }

    private func processor() -> Finding {
        let text = (try? FilePath.read("/proc/cpuinfo", limit: 4 << 20)) ?? []
        return Examination.processor(
            cpuInfo: String(decoding: text, as: UTF8.self), cores: HostResources.usableCPUs().count)
    }

    /// What the kernels will use, from the kernel's list of flags, by the rules of CKernels/variants.c.
    static func processor(cpuInfo: String, cores: Int) -> Finding {
        let lines = cpuInfo.split(separator: "\n")
        let flags = lines.first { $0.hasPrefix("flags") || $0.hasPrefix("Features") } ?? ""
        let words = Set(flags.split(whereSeparator: { " \t:".contains($0) }).map(String.init))
        let count = HumanText.plural(cores, "core")
        if words.isSuperset(of: ["avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq"]) {
            // Intel's cores take BF16 products at half the speed of others, so they are not taken there.
            let hasPairs = words.contains("avx512_bf16") && !cpuInfo.contains("GenuineIntel")
            return .ok("processor", "\(count), AVX-512\(hasPairs ? " with BF16" : "")")
        }
        if words.contains("avx2"), words.contains("fma") {
            return .ok("processor", "\(count), AVX2")
        }
        if words.contains("asimd") { return .ok("processor", "\(count), NEON") }
        return .warn(
            "processor", "\(count), no vector instructions that are used",
            "it works, but slowly: the portable kernels are taken")
    }

    private func memory() -> Finding {
        let all = HumanText.bytes(HostResources.memoryBytes())
        guard let free = HostResources.availableMemoryBytes() else {
            return .ok("memory", all)
        }
        let text = "\(HumanText.bytes(free)) of \(all) available"
        return free < 512 << 20
            ? .warn("memory", text, "models of more than 100M parameters will hardly fit")
            : .ok("memory", text)
    }

    private func openFiles() -> Finding {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else {
            return .warn("open files", "the limit cannot be read", nil)
        }
        let most = Int(clamping: limit.rlim_max)
        return most < 4096
            ? .warn(
                "open files", "at most \(most)", "raise it: `ulimit -n 65536` before `loraq up`")
            : .ok("open files", "at most \(most == .max ? "any number" : HumanText.count(most))")
    }

    private func folder() -> Finding {
        let folder = home.path
        var status = stat()
        guard stat(folder, &status) == 0 else {
            return .ok("home", "\(folder) does not exist yet; `loraq up` makes it")
        }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            return .fail(
                "home", "\(folder) is no folder", "choose another with --home or LORAQ_HOME")
        }
        guard access(folder, R_OK | W_OK | X_OK) == 0 else {
            return .fail(
                "home", "\(folder) is not writable for you",
                "change its owner, or choose another with --home or LORAQ_HOME")
        }
        guard status.st_mode & 0o077 == 0 else {
            return .warn(
                "home", "\(folder) is open to other users", "close it: chmod 700 \(folder)")
        }
        return .ok("home", folder)
    }

    private func disk() -> Finding {
        var folder = home.path
        while !FilePath.isDirectory(folder), folder != "/" { folder = FilePath.parent(of: folder) }
        guard let free = try? FilePath.freeSpace(at: folder) else {
            return .warn("disk", "free space at \(folder) cannot be read", nil)
        }
        let text = "\(HumanText.bytes(free)) free at \(folder)"
        if free < 256 << 20 { return .fail("disk", text, "free some space: the queue lives there") }
        return free < 2 << 30
            ? .warn("disk", text, "a packed model takes as much as its weights in bfloat16")
            : .ok("disk", text)
    }

    private func socketPaths() -> Finding {
        let longest = home.runFolder.utf8.count + "/dispatch".utf8.count
        return longest <= 107
            ? .ok("socket paths", "\(longest) bytes, at most 107 are possible")
            : .fail(
                "socket paths", "\(longest) bytes, but at most 107 are possible",
                "choose a shorter home with --home or LORAQ_HOME")
    }

    private func broker(_ session: Session) -> Finding {
        switch EndpointProbe.look(at: home.controlEndpoint) {
        case .nobody:
            return .warn("broker", "none runs at \(home.path)", "start one with `loraq up`")
        case .forbidden:
            return .fail(
                "broker", "\(home.controlPath) belongs to another user",
                "choose your own home with --home or LORAQ_HOME")
        case .listening, .unknown: break
        }
        let start = MonotonicTime.now()
        do throws(ClientError) {
            let reply = try session.call(.ping, policy: RequestPolicy(timeout: .seconds(5)))
            let text = BrokerText.presence(
                reply.header, home, roundTrip: MonotonicTime.now() - start)
            return .ok("broker", String(text.dropFirst("broker ".count)))
        } catch {
            return .fail("broker", error.message, error.hint ?? "look at `loraq logs --broker`")
        }
    }

    private func sockets() -> Finding {
        let silent = ["control", "dispatch", "events"].filter {
            EndpointProbe.look(at: "ipc://\(home.runFolder)/\($0)") != .listening
        }
        return silent.isEmpty
            ? .ok("sockets", "control, dispatch and events in \(home.runFolder)")
            : .fail(
                "sockets", "nobody listens at " + silent.joined(separator: ", "),
                "`loraq down`, then `loraq up`; the log is \(home.brokerLog)")
    }

    private func workers(_ session: Session) -> [Finding] {
        do throws(ClientError) {
            return Examination.workers(try session.call(.workers).header)
        } catch {
            return [.fail("workers", error.message, error.hint)]
        }
    }

    static func workers(_ header: JSONValue) -> [Finding] {
        var findings: [Finding] = []
        let plugins = header["plugins"]?.array ?? []
        for plugin in plugins {
            guard let error = plugin["error"]?["message"]?.string else { continue }
            let place = plugin["path"]?.string ?? "?"
            findings.append(
                .fail(
                    "plugin \(plugin["name"]?.string ?? "?")", error,
                    plugin["error"]?["hint"]?.string ?? "mend \(place)/worker.json"))
        }
        let workers = header["workers"]?.array ?? []
        let ready = workers.filter { $0["state"]?.string == "ready" }
        for worker in workers where worker["state"]?.string != "ready" {
            let name = worker["instance"]?.string ?? "?"
            let exit = worker["last_exit"]?.string.map { "; last exit: \($0)" } ?? ""
            findings.append(
                .warn(
                    name, "is \(worker["state"]?.string ?? "?")\(exit)",
                    "loraq logs --worker \(name)"))
        }
        if plugins.isEmpty {
            findings.append(
                .fail(
                    "workers", "the broker found no worker plugins",
                    "put one into $LORAQ_HOME/workers, or start with `loraq up --workers FOLDER`"))
        } else if ready.isEmpty {
            findings.append(
                .fail(
                    "workers", "none is ready",
                    "wait a moment and look again; `loraq workers` tells more"))
        } else {
            let names = ready.compactMap { $0["instance"]?.string }
            findings.append(.ok("workers", "ready: " + names.joined(separator: ", ")))
        }
        return findings
    }

    private func models(_ session: Session) -> Finding {
        do throws(ClientError) {
            let models = try session.client.artifacts(type: "model")
            let names = Set(models.compactMap { $0["name"]?.string }).sorted()
            return names.isEmpty
                ? .warn("models", "none yet", "add one: loraq models add NAME FOLDER")
                : .ok("models", names.joined(separator: ", "))
        } catch {
            return .fail("models", error.message, error.hint)
        }
    }
}
