import Foundation
import JSONModel

/// A spec: a JSON object in a file, on standard input (`-`), or written out on the command line.
enum SpecFile {
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
