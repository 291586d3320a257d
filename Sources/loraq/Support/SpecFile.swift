import Foundation
import JSONModel

/// A spec: a JSON object in a file, on standard input (`-`), or written out on the command line.
enum SpecFile {
    static let maximumLines = 10_000

    /// A spec per line; blank lines are passed over.
    static func readLines(_ path: String) throws -> [JSONObject] {
        let text =
            path == "-"
            ? String(
                decoding: try FileHandle.standardInput.read(upToCount: 64 << 20) ?? Data(),
                as: UTF8.self)
            : try InputFile.smallText(path, limit: 64 << 20, what: "specs")
        var specs: [JSONObject] = []
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false)
            .enumerated()
        where !line.allSatisfy(\.isWhitespace) {
            let place = "\(path.prefix(80)), line \(index + 1)"
            let value: JSONValue
            do {
                value = try JSONValue.parse(Array(line.utf8))
            } catch {
                throw ToolError.usage("\(place): not JSON: \(error)")
            }
            guard let object = value.object else {
                throw ToolError.usage(
                    "\(place): a spec is a JSON object, this is \(value.kindName)")
            }
            specs.append(object)
        }
        guard (1...maximumLines).contains(specs.count) else {
            throw ToolError.usage(
                "\(path.prefix(80)): an array has 1 to \(maximumLines) specs, not \(specs.count)")
        }
        return specs
    }

    static func read(_ path: String) throws -> JSONObject {
        let bytes: [UInt8]
        if path.drop(while: \.isWhitespace).hasPrefix("{") {
            bytes = Array(path.utf8)
        } else if path == "-" {
            bytes = [UInt8](try FileHandle.standardInput.read(upToCount: 1 << 20) ?? Data())
        } else {
            bytes = Array(try InputFile.smallText(path, limit: 1 << 20, what: "spec").utf8)
        }
        let value: JSONValue
        do {
            value = try JSONValue.parse(bytes)
        } catch {
            throw ToolError.usage("spec \(path.prefix(80)): not JSON: \(error)")
        }
        guard let object = value.object else {
            throw ToolError.usage(
                "spec \(path.prefix(80)): a spec is a JSON object, this is \(value.kindName)")
        }
        return object
    }
}
