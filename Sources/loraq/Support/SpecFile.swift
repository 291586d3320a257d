import JSONModel

/// A spec: a JSON object in a file, on standard input (`-`), or written out on the command line.
enum SpecFile {
    static let maximumLines = 10_000

    /// A spec per line; blank lines are passed over.
    static func readLines(_ path: String) throws -> [JSONObject] {
        let bytes = try Self.bytes(path, limit: 64 << 20, what: "specs")
        var specs: [JSONObject] = []
        for (index, line) in bytes.split(
            separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false
        ).enumerated()
        where !line.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }) {
            let place = "\(path.prefix(80)), line \(index + 1)"
            let value: JSONValue
            do {
                value = try JSONValue.parse(Array(line))
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
        let bytes =
            path.drop(while: \.isWhitespace).hasPrefix("{")
            ? Array(path.utf8) : try Self.bytes(path, limit: 1 << 20, what: "spec")
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

    /// A file's bytes, or those of standard input, without a byte order mark.
    private static func bytes(_ path: String, limit: Int, what: String) throws(ToolError) -> [UInt8]
    {
        let isStandard = path == "-"
        if !isStandard { try InputFile.check(path, what: what) }
        let input = try isStandard ? ByteInput.standard : ByteInput(path, what: what)
        let bytes = try input.readAll(limit: limit)
        return bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? Array(bytes.dropFirst(3)) : bytes
    }
}
