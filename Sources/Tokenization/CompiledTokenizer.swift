import JSONModel
import LinuxSystem

/// The compiled form of a tokenizer: the final tables as little-endian arrays behind one JSON header.
///
/// `"LQTOK002"`, then sections, each a `UInt64` count of bytes and the bytes, padded to eight:
/// the header (JSON: components, added tokens, model options), the vocabulary's blob, starts, presence
/// bits and slots, and the merges' keys and values or the Unigram scores. Everything is checked again
/// when it is read: a broken file is refused, never trusted.
enum CompiledTokenizer {
    private static let magic = Array("LQTOK002".utf8)

    static func isCompiled(_ file: MappedFile) -> Bool {
        file.count >= 8 && file.withUnsafeBytes { $0.prefix(8).elementsEqual(magic) }
    }

    static func write(_ definition: TokenizerDefinition) -> [UInt8] {
        var output = magic
        func section(_ bytes: [UInt8]) {
            append(UInt64(bytes.count), to: &output)
            output.append(contentsOf: bytes)
            while output.count % 8 != 0 { output.append(0) }
        }
        func section<Number: FixedWidthInteger>(_ numbers: [Number]) {
            var bytes: [UInt8] = []
            bytes.reserveCapacity(numbers.count * MemoryLayout<Number>.size)
            for number in numbers { append(number, to: &bytes) }
            section(bytes)
        }
        section(header(of: definition).serialized())
        let vocabulary = definition.vocabulary
        section(vocabulary.blob)
        section(vocabulary.starts)
        section(vocabulary.present)
        section(vocabulary.slots)
        switch definition.model {
        case .bytePair(let model):
            section(model.merges.keys)
            section(model.merges.values)
        case .unigram(let model): section(model.scores.map(\.bitPattern))
        }
        return output
    }

    static func read(_ file: MappedFile) throws(TokenizerError) -> TokenizerDefinition {
        let result = file.withUnsafeBytes { bytes -> Result<TokenizerDefinition, TokenizerError> in
            do throws(TokenizerError) {
                return .success(try read(bytes))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    private static func read(
        _ bytes: UnsafeRawBufferPointer
    ) throws(TokenizerError) -> TokenizerDefinition {
        var reader = SectionReader(bytes: bytes)
        guard try reader.take(8).elementsEqual(magic) else { throw broken("magic") }
        let header: JSONValue
        do {
            header = try JSONValue.parse(Array(try reader.section()))
        } catch let error as TokenizerError {
            throw error
        } catch {
            throw broken("header")
        }
        guard let count = header["count"]?.integer else { throw broken("header") }
        let vocabulary = try Vocabulary(
            blob: try reader.numbers(), starts: try reader.numbers(),
            present: try reader.numbers(), slots: try reader.numbers(), count: count)
        let model: TokenModel
        let options = Component(header, "compiled tokenizer")
        if header["type"]?.string == "Unigram" {
            let bits: [UInt64] = try reader.numbers()
            guard bits.count == vocabulary.idCount else { throw broken("scores") }
            model = .unigram(
                try UnigramModel(
                    vocabulary: vocabulary, scores: bits.map { Double(bitPattern: $0) },
                    unknownID: header["unk_id"]?.integer.flatMap { Int32(exactly: $0) },
                    fallsBackToBytes: try options.bool("byte_fallback", default: false)))
        } else {
            let merges = try MergeTable(
                keys: try reader.numbers(), values: try reader.numbers(),
                idCount: vocabulary.idCount)
            model = .bytePair(
                try BytePairModel(
                    vocabulary: vocabulary, merges: merges,
                    options: BytePairModel.Options(
                        ignoresMerges: try options.bool("ignore_merges"),
                        fallsBackToBytes: try options.bool("byte_fallback"),
                        fusesUnknown: try options.bool("fuse_unk"),
                        unknownToken: try options.optionalString("unk_token").map {
                            Array($0.utf8)
                        },
                        continuingPrefix: Array(try options.string("prefix").utf8),
                        endOfWordSuffix: Array(try options.string("suffix").utf8))))
        }
        func part(_ key: String) -> JSONValue? {
            header[key].flatMap { $0.isNull ? JSONValue?.none : $0 }
        }
        return TokenizerDefinition(
            vocabulary: vocabulary, model: model, normalizer: part("normalizer"),
            preTokenizer: part("pre_tokenizer"), postProcessor: part("post_processor"),
            decoder: part("decoder"), addedTokens: try addedTokens(header))
    }

    private static func addedTokens(
        _ header: JSONValue
    ) throws(TokenizerError) -> [AddedTokens.Token] {
        var tokens: [AddedTokens.Token] = []
        for entry in header["added_tokens"]?.array ?? [] {
            guard let fields = entry.array, fields.count == 3, let content = fields[0].string,
                let id = fields[1].integer, let id = Int32(exactly: id), id >= 0,
                id <= 2 * Vocabulary.maximumID, let flags = fields[2].integer
            else { throw broken("added tokens") }
            tokens.append(
                AddedTokens.Token(
                    id: id, content: Array(content.utf8), singleWord: flags & 1 != 0,
                    stripsLeft: flags & 2 != 0, stripsRight: flags & 4 != 0,
                    normalized: flags & 8 != 0, special: flags & 16 != 0))
        }
        return tokens
    }

    private static func header(of definition: TokenizerDefinition) -> JSONValue {
        var header = JSONObject()
        header["count"] = .integer(Int64(definition.vocabulary.count))
        header["normalizer"] = definition.normalizer ?? .null
        header["pre_tokenizer"] = definition.preTokenizer ?? .null
        header["post_processor"] = definition.postProcessor ?? .null
        header["decoder"] = definition.decoder ?? .null
        header["added_tokens"] = .array(
            definition.addedTokens.map { token in
                let flags =
                    (token.singleWord ? 1 : 0) | (token.stripsLeft ? 2 : 0)
                    | (token.stripsRight ? 4 : 0) | (token.normalized ? 8 : 0)
                    | (token.special ? 16 : 0)
                return .array([
                    .string(String(decoding: token.content, as: UTF8.self)),
                    .integer(Int64(token.id)), .integer(Int64(flags)),
                ])
            })
        switch definition.model {
        case .bytePair(let model):
            let options = model.options
            header["type"] = "BPE"
            header["ignore_merges"] = .bool(options.ignoresMerges)
            header["byte_fallback"] = .bool(options.fallsBackToBytes)
            header["fuse_unk"] = .bool(options.fusesUnknown)
            header["unk_token"] =
                options.unknownToken.map { .string(String(decoding: $0, as: UTF8.self)) } ?? .null
            header["prefix"] = .string(String(decoding: options.continuingPrefix, as: UTF8.self))
            header["suffix"] = .string(String(decoding: options.endOfWordSuffix, as: UTF8.self))
        case .unigram(let model):
            header["type"] = "Unigram"
            header["unk_id"] = model.unknownID.map { .integer(Int64($0)) } ?? .null
            header["byte_fallback"] = .bool(model.fallsBackToBytes)
        }
        return .object(header)
    }

    static func broken(_ what: String) -> TokenizerError {
        TokenizerError(.malformed, "compiled tokenizer: the \(what) is broken; prepare it again")
    }

    private static func append(_ number: some FixedWidthInteger, to output: inout [UInt8]) {
        withUnsafeBytes(of: number.littleEndian) { output.append(contentsOf: $0) }
    }
}

/// Reads the sections of a compiled tokenizer, each length checked against what is left.
private struct SectionReader {
    let bytes: UnsafeRawBufferPointer
    private var position = 0

    init(bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    mutating func take(_ count: Int) throws(TokenizerError) -> Slice<UnsafeRawBufferPointer> {
        guard count >= 0, count <= bytes.count - position else {
            throw CompiledTokenizer.broken("length of a section")
        }
        defer { position += count }
        return bytes[position..<(position + count)]
    }

    mutating func section() throws(TokenizerError) -> Slice<UnsafeRawBufferPointer> {
        var length: UInt64 = 0
        for (index, byte) in try take(8).enumerated() { length |= UInt64(byte) << (8 * index) }
        guard let count = Int(exactly: length) else {
            throw CompiledTokenizer.broken("length of a section")
        }
        let section = try take(count)
        _ = try take(min((8 - position % 8) % 8, bytes.count - position))
        return section
    }

    /// A section of little-endian numbers.
    mutating func numbers<Number: FixedWidthInteger>() throws(TokenizerError) -> [Number] {
        let section = try section()
        let size = MemoryLayout<Number>.size
        guard section.count % size == 0 else { throw CompiledTokenizer.broken("size of a section") }
        return [Number](unsafeUninitializedCapacity: section.count / size) { buffer, count in
            UnsafeMutableRawBufferPointer(buffer).copyBytes(from: section)
            count = section.count / size
            // Stored little-endian, which is the order of every supported machine.
        }
    }
}
