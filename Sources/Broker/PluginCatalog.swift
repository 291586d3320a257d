import LinuxSystem
import WireProtocol

/// A worker plugin: its manifest and the folder it lies in.
struct Plugin: Sendable {
    /// Absolute.
    var directory: String
    var manifest: WorkerManifest

    var name: String { manifest.name.text }

    /// The program to start: beside the manifest if it holds a `/`, else next to `loraqd`, else on
    /// `PATH`. Nil if there is none.
    func executable(besides programDirectory: String, searchPath: String) -> String? {
        let program = manifest.exec[0]
        if program.contains("/") {
            let path = program.hasPrefix("/") ? program : "\(directory)/\(program)"
            return FilePath.exists(path) ? FilePath.absolute(path) : nil
        }
        for folder in [programDirectory] + searchPath.split(separator: ":").map(String.init) {
            let path = "\(folder)/\(program)"
            if FilePath.exists(path), !FilePath.isDirectory(path) { return path }
        }
        return nil
    }
}

/// The plugins there are; of two of one name the first found is taken.
struct PluginCatalog: Sendable {
    /// A folder that looks like a plugin but cannot be used, and why.
    struct Fault: Sendable {
        var name: String
        var path: String
        var message: String
    }

    private(set) var plugins: [Plugin] = []
    private(set) var faults: [Fault] = []

    init() {}

    /// - Parameter folders: Where plugin folders lie, in order of precedence.
    init(searching folders: [String]) {
        for folder in folders.map(FilePath.absolute) {
            guard let names = try? FilePath.entries(of: folder) else { continue }
            for name in names {
                let directory = "\(folder)/\(name)"
                let path = "\(directory)/\(WorkerManifest.fileName)"
                guard FilePath.exists(path) else { continue }
                do {
                    let manifest = try WorkerManifest(json: FilePath.read(path, limit: 1 << 20))
                    add(Plugin(directory: directory, manifest: manifest))
                } catch {
                    faults.append(Fault(name: name, path: directory, message: "\(path): \(error)"))
                }
            }
        }
    }

    private mutating func add(_ plugin: Plugin) {
        if self[plugin.name] == nil { plugins.append(plugin) }
    }

    subscript(name: String) -> Plugin? { plugins.first { $0.name == name } }

    /// The plugins that know a kind.
    func plugins(of kind: String) -> [Plugin] {
        plugins.filter { $0.manifest.kinds.contains { $0.name.text == kind } }
    }
}
