import JSONModel
import LinuxSystem

/// A packed model file, mapped read-only and checked before use.
///
/// Opening checks the header's digest, every range against the file's size and the layout version; it does
/// not read the matrices. `verifyContents` does.
public final class PackedModelFile: Sendable {
    public let path: String
    /// The mapping; who keeps a pointer into it keeps this object.
    public let file: MappedFile
    /// Digest of configuration and weights that this was packed from.
    public let base: ContentDigest
    /// Type of the matrices: `bfloat16` or `float32`.
    public let elementType: ElementType
    public let tensors: [PackedTensor]

    private let ranges: [String: (index: Int, bytes: Range<Int>)]
    private let dataStart: Int

    /// - Parameter expectedBase: The digest that the manifest names, where one is known.
    /// - Throws: `ModelFileError` with code `corrupt` or `malformed`, saying which field.
    public init(path: String, expectedBase: ContentDigest? = nil) throws {
        self.path = path
        do { file = try MappedFile(path: path) } catch {
            throw ModelFileError(.unreadable, file: path, "\(error)")
        }
        let header = try Self.header(of: file, path: path)
        let start = Checked.aligned(
            PackedForm.prefixBytes + header.bytes, to: PackedForm.pageBytes)
        let end = file.count - PackedForm.pageBytes
        guard let start, start <= end else {
            throw ModelFileError(.malformed, file: path, item: "header", "leaves no room for data")
        }
        dataStart = start
        guard let base = header.json["base"]?.string.flatMap(ContentDigest.init(text:)) else {
            throw ModelFileError(.malformed, file: path, item: "base", "is no digest")
        }
        guard expectedBase == nil || expectedBase == base else {
            throw ModelFileError(
                .corrupt, file: path, item: "base",
                "was packed from \(base.text), expected \(expectedBase?.text ?? "")")
        }
        guard let type = header.json["dtype"]?.string.flatMap(ElementType.init(rawValue:)) else {
            throw ModelFileError(.malformed, file: path, item: "dtype", "is not known")
        }
        self.base = base
        elementType = type
        var tensors: [PackedTensor] = []
        var ranges: [String: (index: Int, bytes: Range<Int>)] = [:]
        var position = start
        for value in header.json["tensors"]?.array ?? [] {
            let (tensor, offset) = try Self.tensor(value, path: path)
            guard offset == position, let next = Checked.sum(offset, tensor.byteCount), next <= end,
                let aligned = Checked.aligned(next, to: PackedForm.pageBytes)
            else {
                throw ModelFileError(
                    .malformed, file: path, item: tensor.name,
                    "bytes \(offset)+\(tensor.byteCount) are not the ones that follow \(position) "
                        + "in a file of \(file.count)")
            }
            guard ranges.updateValue((tensors.count, offset..<next), forKey: tensor.name) == nil
            else {
                throw ModelFileError(
                    .duplicateTensor, file: path, item: tensor.name, "occurs twice")
            }
            tensors.append(tensor)
            position = aligned
        }
        guard position == end else {
            throw ModelFileError(
                .corrupt, file: path, "the tensors end at \(position), the data at \(end)")
        }
        self.tensors = tensors
        self.ranges = ranges
    }

    private static func header(
        of file: MappedFile, path: String
    ) throws -> (json: JSONValue, bytes: Int) {
        func malformed(_ item: String, _ reason: String) -> ModelFileError {
            ModelFileError(.malformed, file: path, item: item, reason)
        }
        return try file.withUnsafeBytes { all in
            guard all.count >= PackedForm.prefixBytes + PackedForm.pageBytes else {
                throw malformed("size", "\(all.count) bytes are too few for a packed model")
            }
            guard all[0..<8].elementsEqual(PackedForm.magic) else {
                throw malformed("magic", "this is no packed model")
            }
            func number<T: FixedWidthInteger>(_ offset: Int, _ type: T.Type) -> T {
                T(littleEndian: all.loadUnaligned(fromByteOffset: offset, as: T.self))
            }
            guard number(8, UInt32.self) == UInt32(PackedForm.version) else {
                throw ModelFileError(
                    .unsupported, file: path, item: "layout version",
                    "\(number(8, UInt32.self)) is not \(PackedForm.version); "
                        + "add the model again to pack it anew")
            }
            guard number(24, UInt64.self) == UInt64(all.count) else {
                throw ModelFileError(
                    .corrupt, file: path, item: "size",
                    "the header says \(number(24, UInt64.self)) bytes, the file has \(all.count)")
            }
            let claimed = number(16, UInt64.self)
            guard claimed <= UInt64(PackedForm.maximumHeaderBytes),
                Int(claimed) <= all.count - PackedForm.prefixBytes - PackedForm.pageBytes
            else { throw malformed("header length", "\(claimed) does not fit the file") }
            let end = PackedForm.prefixBytes + Int(claimed)
            let text = UnsafeRawBufferPointer(rebasing: all[PackedForm.prefixBytes..<end])
            var builder = DigestBuilder()
            builder.update(text)
            guard builder.finish().hex.utf8.elementsEqual(all[32..<96]) else {
                throw ModelFileError(
                    .corrupt, file: path, item: "header", "its SHA-256 is not the stored one")
            }
            do { return (try JSONValue.parse(text), Int(claimed)) } catch {
                throw malformed("header", "\(error)")
            }
        }
    }

    private static func tensor(
        _ value: JSONValue, path: String
    ) throws -> (PackedTensor, offset: Int) {
        guard let name = value["name"]?.string else {
            throw ModelFileError(.malformed, file: path, item: "tensors", "an entry has no name")
        }
        guard let type = value["dtype"]?.string.flatMap(ElementType.init(rawValue:)),
            let layout = value["layout"]?.string, let rows = value["rows"]?.integer, rows > 0,
            let columns = value["columns"]?.integer, columns > 0,
            let offset = value["offset"]?.integer, offset >= 0,
            let bytes = value["bytes"]?.integer, bytes > 0,
            let least = Checked.product([rows, columns, type.byteWidth]), bytes >= least
        else {
            throw ModelFileError(
                .malformed, file: path, item: name, "dtype, shape, layout or bytes are wrong")
        }
        let sources = (value["sources"]?.array ?? []).compactMap(\.string)
        return (
            PackedTensor(
                name: name, elementType: type, rows: rows, columns: columns, layout: layout,
                byteCount: bytes, sources: sources), offset
        )
    }

    public func tensor(_ name: String) throws -> PackedTensor { tensors[try find(name).index] }

    /// The tensor's packed bytes. They stay valid as long as `file` is kept.
    public func bytes(of name: String) throws -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: file.bytes[try find(name).bytes])
    }

    /// A copy of a float32 vector or row-major matrix.
    public func floats(of name: String) throws -> [Float] {
        let tensor = try tensor(name)
        guard tensor.elementType == .float32 else {
            throw ModelFileError(
                .unsupported, file: path, item: name,
                "holds \(tensor.elementType.rawValue), not F32")
        }
        let count = tensor.rows * tensor.columns
        let bytes = try bytes(of: name)
        return withExtendedLifetime(file) {
            (0..<count).map {
                Float(bitPattern: bytes.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self))
            }
        }
    }

    /// Reads every byte and compares with the digest in the last page.
    public func verifyContents() throws {
        try file.withUnsafeBytes { all in
            let end = all.count - PackedForm.pageBytes
            var builder = DigestBuilder()
            builder.update(UnsafeRawBufferPointer(rebasing: all[dataStart..<end]))
            let stored = all[(end + 8)..<(end + 72)]
            guard all[end..<(end + 8)].elementsEqual(PackedForm.endMagic),
                builder.finish().hex.utf8.elementsEqual(stored)
            else {
                throw ModelFileError(
                    .corrupt, file: path, "the contents' SHA-256 is not the stored one")
            }
        }
    }

    private func find(_ name: String) throws -> (index: Int, bytes: Range<Int>) {
        guard let found = ranges[name] else {
            throw ModelFileError(
                .missingTensor, file: path, item: name, "the packed model does not hold it")
        }
        return found
    }
}
