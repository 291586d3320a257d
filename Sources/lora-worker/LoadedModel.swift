import ChatTemplate
import Foundation
import Generation
import JSONModel
import Kernels
import LinuxSystem
import LoRA
import ModelFiles
import Tokenization
import Transformer
import WireProtocol

/// A prepared base model in this process: the mapped weights, what turns text into ids and back, its adapters, and,
/// once asked for, the engine that answers requests.
///
/// `@unchecked Sendable` is sound: what changes is guarded by `lock`.
final class LoadedModel: @unchecked Sendable {
    let digest: ContentDigest
    let prepared: PreparedModel
    let decoder: Decoder
    let tokenizer: Tokenizer?
    /// Nil if the model has none.
    let template: Result<ConversationTemplate, any Error>?
    /// Texts that templates may use: `bos_token`, `eos_token`, …
    let templateTokens: [(name: String, text: String)]
    /// Tokens that end an answer, by config, generation config and tokenizer together.
    let endTokens: Set<Int32>
    /// The tokenizer's own end token, where its settings name one.
    let tokenizerEnd: Int32?

    private let pool: ThreadPool
    private let memory: WorkerMemory
    private let lock = NSLock()
    private var engine: GenerationEngine?
    private var adapters: AdapterCache
    /// Only for packing adapters; guarded by `lock`.
    private let packing: Compute

    init(folder: String, digest: ContentDigest, pool: ThreadPool, memory: WorkerMemory) throws {
        self.digest = digest
        self.pool = pool
        self.memory = memory
        prepared = try PreparedModel(folder: folder)
        decoder = try Decoder(config: prepared.config, packed: prepared.packed)
        packing = try Compute(pool: pool)
        adapters = AdapterCache(limitBytes: memory.adapterBytes)
        tokenizer = try Self.tokenizer(of: prepared)
        let settings = try prepared.tokenizerConfig()
        template = try prepared.chatTemplate().map { source in
            Result { try ConversationTemplate(source: source) }
        }
        let tokens = TemplateSource.specialTokens(of: settings)
        templateTokens = tokens
        var ends = Set(prepared.config.specialTokens.end.compactMap { Int32(exactly: $0) })
        tokenizerEnd = tokens.first { $0.name == "eos_token" }.flatMap { [tokenizer] in
            tokenizer?.tokenID(of: $0.text)
        }
        if let tokenizerEnd { ends.insert(tokenizerEnd) }
        endTokens = ends
    }

    private static func tokenizer(of prepared: PreparedModel) throws -> Tokenizer? {
        let compiled = prepared.folder + "/" + compiledTokenizerName
        if FilePath.exists(compiled) { return try Tokenizer(compiled: MappedFile(path: compiled)) }
        guard let source = try prepared.tokenizer() else { return nil }
        return try Tokenizer(source)
    }

    /// The compiled tokenizer's file in a prepared folder.
    static let compiledTokenizerName = "tokenizer.bin"

    /// The engine, started at the first request.
    func generation() throws -> GenerationEngine {
        try lock.withLock {
            if let engine { return engine }
            guard let tokenizer else {
                throw TaskFailure.user(
                    "NO_TOKENIZER", "the model has no tokenizer", hint: "add one to its folder")
            }
            let (decoder, pool, memory) = (decoder, pool, memory)
            let limits = memory.generationLimits(for: decoder)
            let started = try GenerationEngine(tokenizer: tokenizer, limits: limits) {
                try memory.makePass(decoder, Compute(pool: pool), limits)
            }
            engine = started
            return started
        }
    }

    /// An adapter, loaded if it is not in memory.
    ///
    /// - Returns: How long the load took, in seconds; nil for an adapter that was in memory.
    /// - Throws: When the folder does not fit this base model.
    func adapter(
        folder: String, digest: ContentDigest
    ) throws -> (adapter: ServedAdapter, loadSeconds: Double?) {
        try lock.withLock {
            if let known = adapters.find(digest) { return (known, nil) }
            let start = MonotonicTime.now()
            // Registration has compared the copies of base matrices, if the file holds any.
            let adapter = try AdapterFolder.read(folder, for: decoder, checkingBase: false)
            let served = try decoder.serve(adapter, digest: digest, compute: packing)
            adapters.insert(served, digest)
            return (served, (MonotonicTime.now() - start).seconds)
        }
    }

    /// Digests of the adapters in memory, the last used first.
    var loadedAdapters: [ContentDigest] { lock.withLock { adapters.digests } }

    /// Whether nothing runs, so that the model may be put away.
    var isIdle: Bool {
        lock.withLock {
            guard let engine else { return true }
            let statistics = engine.statistics
            return statistics.active == 0 && statistics.waiting == 0
        }
    }

    func close() { lock.withLock { engine }?.stop() }
}

/// Adapters in memory, the least recently used put away first. Requests that run keep theirs alive by themselves.
struct AdapterCache {
    private let limitBytes: Int
    private var entries: [(digest: ContentDigest, adapter: ServedAdapter)] = []
    private var bytes = 0

    init(limitBytes: Int) { self.limitBytes = limitBytes }

    /// The last used first.
    var digests: [ContentDigest] { entries.reversed().map(\.digest) }

    mutating func find(_ digest: ContentDigest) -> ServedAdapter? {
        guard let index = entries.lastIndex(where: { $0.digest == digest }) else { return nil }
        let entry = entries.remove(at: index)
        entries.append(entry)
        return entry.adapter
    }

    /// Puts an adapter in; the newest always stays.
    mutating func insert(_ adapter: ServedAdapter, _ digest: ContentDigest) {
        entries.append((digest, adapter))
        bytes += adapter.byteCount
        while bytes > limitBytes, entries.count > 1 {
            bytes -= entries.removeFirst().adapter.byteCount
        }
    }
}

extension Tokenizer {
    /// From what a model's source says of it.
    convenience init(_ source: TokenizerSource) throws {
        switch source {
        case .tokenizerJSON(let bytes):
            let json: JSONValue
            do {
                json = try JSONValue.parse(bytes)
            } catch {
                throw TaskFailure.user("BAD_TOKENIZER", "tokenizer.json: \(error)")
            }
            try self.init(json: json)
        case .gguf(let data): try self.init(gguf: data)
        }
    }
}
