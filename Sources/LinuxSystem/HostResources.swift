import CLinux
import Glibc

/// What the machine has, and what a process uses of it.
public enum HostResources {
    /// Cores this process may run on, by number.
    public static func usableCPUs() -> [Int] {
        var words = [UInt64](repeating: 0, count: 16)
        let size = words.withUnsafeMutableBytes { bytes in
            clinux_get_affinity(bytes.baseAddress, bytes.count)
        }
        guard size > 0 else { return Array(0..<max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))) }
        return (0..<1024).filter { words[$0 / 64] >> UInt64($0 % 64) & 1 == 1 }
    }

    /// The cores of each NUMA node, by `/sys/devices/system/node`; one node of all usable cores where that is not there.
    public static func numaNodes() -> [[Int]] {
        let folder = "/sys/devices/system/node"
        let names = (try? FilePath.entries(of: folder)) ?? []
        let numbers = names.compactMap { name -> Int? in
            name.hasPrefix("node") ? Int(name.dropFirst(4)) : nil
        }
        let usable = Set(usableCPUs())
        let nodes = numbers.sorted().compactMap { number -> [Int]? in
            guard let bytes = try? FilePath.read("\(folder)/node\(number)/cpulist", limit: 65_536)
            else { return nil }
            let cpus = cpuList(String(decoding: bytes, as: UTF8.self)).filter(usable.contains)
            return cpus.isEmpty ? nil : cpus
        }
        return nodes.isEmpty ? [usable.sorted()] : nodes
    }

    /// The numbers in a list such as `0-3,8`.
    static func cpuList(_ text: String) -> [Int] {
        text.split(whereSeparator: { $0 == "," || $0 == "\n" }).flatMap { part -> [Int] in
            let ends = part.split(separator: "-").compactMap { Int($0) }
            guard let first = ends.first, let last = ends.last, first <= last, last < 65_536 else {
                return []
            }
            return Array(first...last)
        }
    }

    /// Processes that the kernel has killed for want of memory since boot, on this machine or in this container; nil
    /// where the kernel does not say.
    public static func outOfMemoryKills() -> Int? {
        field("oom_kill ", in: "/sys/fs/cgroup/memory.events")
            ?? field("oom_kill ", in: "/proc/vmstat")
    }

    /// Bytes of physical memory.
    public static func memoryBytes() -> Int {
        Int(sysconf(Int32(_SC_PHYS_PAGES))) * Int(sysconf(Int32(_SC_PAGESIZE)))
    }

    /// Bytes that can be had without swapping, by `/proc/meminfo`.
    public static func availableMemoryBytes() -> Int? {
        field("MemAvailable:", in: "/proc/meminfo").map { $0 * 1024 }
    }

    /// Resident bytes of a process (of this one without `pid`).
    public static func residentBytes(pid: Int? = nil) -> Int? {
        field("VmRSS:", in: "/proc/\(pid.map(String.init) ?? "self")/status").map { $0 * 1024 }
    }

    /// The most resident bytes that a process ever had.
    public static func peakResidentBytes(pid: Int? = nil) -> Int? {
        field("VmHWM:", in: "/proc/\(pid.map(String.init) ?? "self")/status").map { $0 * 1024 }
    }

    /// Proportional set size: shared pages divided by the number of processes that map them.
    public static func proportionalBytes(pid: Int? = nil) -> Int? {
        field("Pss:", in: "/proc/\(pid.map(String.init) ?? "self")/smaps_rollup").map { $0 * 1024 }
    }

    /// When a process started, in clock ticks since boot: with the pid it names a process for good.
    public static func startTicks(pid: Int) -> UInt64? {
        guard let bytes = try? FilePath.read("/proc/\(pid)/stat", limit: 4096) else { return nil }
        let text = String(decoding: bytes, as: UTF8.self)
        // The second field is the command in brackets and may hold anything; count after the last one.
        guard let end = text.lastIndex(of: ")") else { return nil }
        let fields = text[text.index(after: end)...].split(separator: " ")
        return fields.count > 19 ? UInt64(fields[19]) : nil
    }

    private static func field(_ name: String, in path: String) -> Int? {
        guard let bytes = try? FilePath.read(path, limit: 1 << 20) else { return nil }
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        where line.hasPrefix(name) {
            return Int(line.dropFirst(name.count).filter(\.isNumber))
        }
        return nil
    }
}
