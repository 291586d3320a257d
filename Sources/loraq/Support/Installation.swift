import Glibc
import LinuxSystem

/// The programs beside this one.
struct Installation {
    let programs: String
    /// The package's `workers/`, when this is a build in its source folder.
    let sourceWorkers: String?

    init(ownPath: String?) {
        programs = FilePath.parent(of: ownPath ?? "/usr/local/bin/loraq")
        var folder = programs
        while folder != "/", FilePath.name(of: folder) != ".build" {
            folder = FilePath.parent(of: folder)
        }
        let workers = FilePath.parent(of: folder) + "/workers"
        sourceWorkers = folder != "/" && FilePath.isDirectory(workers) ? workers : nil
    }

    /// A program beside this one, or on `PATH`.
    func find(_ name: String, path: String?) -> String? {
        let beside = programs + "/" + name
        if access(beside, X_OK) == 0 { return beside }
        for folder in (path ?? "").split(separator: ":") {
            let candidate = "\(folder)/\(name)"
            if access(candidate, X_OK) == 0 { return candidate }
        }
        return nil
    }
}
