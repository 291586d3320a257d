import BrokerCore
import Glibc
import LinuxSystem

/// Which home a worker process belongs to: its environment names the endpoint that it was started for.
///
/// So workers are found of a broker that was killed between starting them and writing that down, and those are left
/// alone that a copy of another home knows of.
enum StrayWorkers {
    /// Whether a living process was started for another home than the one of `dispatch`, which is still there.
    ///
    /// A process that does not say, or whose home was moved away, is not another's: nobody else would end it.
    static func isOfAnotherHome(pid: Int32, dispatch: String) -> Bool {
        guard let endpoint = environment(of: pid)?["LORAQ_DISPATCH"], endpoint != dispatch,
            let theirs = folder(of: endpoint)
        else { return false }
        return theirs != folder(of: dispatch)
    }

    /// The folder of an endpoint's socket, by device and inode: a home may be spelled in several ways.
    private static func folder(of endpoint: String) -> [UInt64]? {
        guard endpoint.hasPrefix("ipc://") else { return nil }
        var status = stat()
        guard stat(FilePath.parent(of: String(endpoint.dropFirst(6))), &status) == 0 else {
            return nil
        }
        return [UInt64(status.st_dev), UInt64(status.st_ino)]
    }

    /// - Parameters:
    ///   - dispatch: The endpoint that this home's workers connect to.
    ///   - logPath: The log of an instance.
    static func find(dispatch: String, logPath: (String) -> String) -> [ProcessRecord] {
        guard let names = try? FilePath.entries(of: "/proc") else { return [] }
        var records: [ProcessRecord] = []
        for name in names {
            guard let pid = Int32(name), pid != getpid(), getpgid(pid) == pid,
                let environment = environment(of: pid), environment["LORAQ_DISPATCH"] == dispatch,
                let instance = environment["LORAQ_INSTANCE"],
                let plugin = environment["LORAQ_PLUGIN"],
                let ticks = HostResources.startTicks(pid: Int(pid)),
                ProcessSpawner.isAlive(pid: pid, startTicks: ticks)
            else { continue }
            records.append(
                ProcessRecord(
                    instance: instance, plugin: plugin, pid: pid, startTicks: ticks,
                    logPath: logPath(instance), startedAt: Int64(WallClock.milliseconds())))
        }
        return records
    }

    /// What a process was started with; nil for processes of others.
    private static func environment(of pid: Int32) -> [String: String]? {
        guard let bytes = try? FilePath.read("/proc/\(pid)/environ", limit: 1 << 20) else {
            return nil
        }
        var values: [String: String] = [:]
        for entry in bytes.split(separator: 0) {
            guard let mark = entry.firstIndex(of: UInt8(ascii: "=")) else { continue }
            let key = String(decoding: entry[..<mark], as: UTF8.self)
            guard key.hasPrefix("LORAQ_") else { continue }
            values[key] = String(decoding: entry[(mark + 1)...], as: UTF8.self)
        }
        return values
    }
}
