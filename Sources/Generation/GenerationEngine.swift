import Foundation
import LinuxSystem
import Tokenization
import Transformer

/// Continuous batching on a thread of its own.
///
/// Requests may be submitted and cancelled from any thread; their events come on the engine's thread and must not
/// block it.
///
/// `@unchecked Sendable` is sound: the inbox is guarded by `condition`, and everything else belongs to the engine's thread.
public final class GenerationEngine: @unchecked Sendable {
    /// A snapshot of the engine.
    public struct Statistics: Sendable, Equatable {
        public var active = 0
        public var waiting = 0
        public var generatedTokens = 0
        public var freePages = 0
    }

    private enum Order {
        case submit(Int, GenerationRequest, @Sendable (GenerationEvent) -> Void)
        case cancel(Int)
        case stop
    }

    private let condition = NSCondition()
    private var inbox: [Order] = []
    private var lastID = 0
    private var published = Statistics()
    private var thread: SystemThread?

    /// Starts the engine.
    ///
    /// - Parameters:
    ///   - makePass: Called on the engine's thread, which then owns the pass.
    ///   - name: Of the thread.
    /// - Throws: What `makePass` throws.
    public init(
        name: String = "generation", tokenizer: Tokenizer, limits: GenerationLimits,
        makePass: @escaping @Sendable () throws -> InferencePass
    ) throws {
        let ready = StartGate()
        thread = try SystemThread(name: name) { [self] in
            do {
                let batch = try ContinuousBatch(
                    pass: try makePass(), tokenizer: tokenizer, limits: limits)
                ready.open(nil)
                run(batch)
            } catch {
                ready.open(error)
            }
        }
        if let error = ready.wait() {
            thread?.join()
            throw error
        }
    }

    /// Takes a request; its events go to `emit` until `finished` or `failed`.
    ///
    /// - Returns: What `cancel` takes.
    @discardableResult
    public func submit(
        _ request: GenerationRequest, emit: @escaping @Sendable (GenerationEvent) -> Void
    ) -> Int {
        condition.lock()
        defer { condition.unlock() }
        lastID += 1
        inbox.append(.submit(lastID, request, emit))
        condition.signal()
        return lastID
    }

    /// Ends a request at the next token boundary; it finishes with what it has.
    public func cancel(_ id: Int) { post(.cancel(id)) }

    /// Ends all requests with an error and the thread; returns when it has ended.
    public func stop() {
        post(.stop)
        thread?.join()
    }

    public var statistics: Statistics {
        condition.lock()
        defer { condition.unlock() }
        return published
    }

    private func post(_ order: Order) {
        condition.lock()
        defer { condition.unlock() }
        inbox.append(order)
        condition.signal()
    }

    private func run(_ batch: ContinuousBatch) {
        while true {
            for order in take(waits: batch.isIdle) {
                switch order {
                case .submit(let id, let request, let emit): batch.add(id, request, emit: emit)
                case .cancel(let id): batch.cancel(id)
                case .stop:
                    batch.fail(GenerationError(.engine, "the engine was stopped"))
                    return
                }
            }
            do {
                try batch.step()
            } catch {
                batch.fail(GenerationError(.engine, "\(error)"))
            }
            publish(batch)
        }
    }

    private func take(waits: Bool) -> [Order] {
        condition.lock()
        defer { condition.unlock() }
        while waits, inbox.isEmpty { condition.wait() }
        defer { inbox.removeAll(keepingCapacity: true) }
        return inbox
    }

    private func publish(_ batch: ContinuousBatch) {
        condition.lock()
        defer { condition.unlock() }
        published = Statistics(
            active: batch.activeCount, waiting: batch.waitingCount,
            generatedTokens: batch.generatedTokens, freePages: batch.freePages)
    }
}

/// Lets `init` wait for the thread's first word. `@unchecked Sendable`: guarded by its condition.
private final class StartGate: @unchecked Sendable {
    private let condition = NSCondition()
    private var outcome: (any Error)??

    func open(_ error: (any Error)?) {
        condition.lock()
        outcome = .some(error)
        condition.signal()
        condition.unlock()
    }

    func wait() -> (any Error)? {
        condition.lock()
        defer { condition.unlock() }
        while outcome == nil { condition.wait() }
        return outcome ?? nil
    }
}
