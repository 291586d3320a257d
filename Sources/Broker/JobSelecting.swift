import BrokerCore
import JobStore
import WireProtocol

extension EventLoop {
    /// The most jobs that one selector may mean.
    static let maximumSelected = 10_000

    /// Finds out which jobs selectors mean, then goes on with their ids; a selector that means
    /// none, or more than it may, is answered with an error.
    func resolve(
        _ selectors: [String], _ request: PendingRequest,
        then next: @escaping @Sendable (EventLoop, [JobID]) -> Void
    ) {
        guard !selectors.isEmpty, selectors.count <= 1_000 else {
            return fail(
                request, ErrorObject(.badHeader, .user, "`jobs` must name 1 to 1000 selectors"))
        }
        resolve(selectors[...], [], request, next)
    }

    /// As `resolve`, for requests about one job.
    func resolveOne(
        _ selector: String, _ request: PendingRequest,
        then next: @escaping @Sendable (EventLoop, JobID) -> Void
    ) {
        resolve([selector], request) { loop, ids in
            guard let id = ids.first, ids.count == 1 else {
                return loop.fail(
                    request,
                    ErrorObject(
                        .ambiguous, .user,
                        "`\(selector.prefix(200))` means \(ids.count) jobs; name one"))
            }
            next(loop, id)
        }
    }

    private func resolve(
        _ selectors: ArraySlice<String>, _ found: [JobID], _ request: PendingRequest,
        _ next: @escaping @Sendable (EventLoop, [JobID]) -> Void
    ) {
        var rest = selectors
        var found = found
        while let selector = rest.first, let id = JobID(text: selector) {
            found.append(id)
            rest = rest.dropFirst()
        }
        guard let selector = rest.first else { return next(self, Self.unique(found)) }
        let remaining = rest.dropFirst()
        let before = found
        query(request) { store, completion in
            store.selectJobs(
                selector, limit: Self.maximumSelected + 1, completion: completion)
        } then: { loop, selected in
            if let error = Self.fault(of: selector, selected) {
                return loop.fail(request, error)
            }
            loop.resolve(remaining, before + selected.ids, request, next)
        }
    }

    private static func fault(of selector: String, _ selected: SelectedJobs) -> ErrorObject? {
        let count = selected.ids.count
        guard count <= maximumSelected else {
            return ErrorObject(
                .limit, .user,
                "`\(selector.prefix(200))` means more than \(maximumSelected) jobs",
                hint: "LIST goes through any number; name fewer jobs here, by id or by label")
        }
        switch selected.match {
        case .all, .id, .label: return nil
        case .last where count > 0: return nil
        case .last, .none:
            return ErrorObject(
                .unknownJob, .user, "no job matches `\(selector.prefix(200))`",
                hint: "selectors are an id, its unique beginning or end, `last`, `all`, a label")
        case .partOfID where selector.utf8.count < 4:
            return ErrorObject(
                .unknownJob, .user, "no job matches `\(selector)`",
                hint: "the beginning or end of an id must have 4 characters at least")
        case .partOfID where count > 1:
            return ErrorObject(
                .ambiguous, .user,
                "`\(selector.prefix(200))` begins or ends \(count) ids; give more of it")
        case .partOfID: return nil
        }
    }

    private static func unique(_ ids: [JobID]) -> [JobID] {
        var seen: Set<JobID> = []
        return ids.filter { seen.insert($0).inserted }
    }

    /// Asks the store, and goes on here with what it answers; a failure answers the request.
    func query<Value: Sendable>(
        _ request: PendingRequest,
        _ ask: (DurableJobStore, @escaping DurableJobStore.Completion<Value>) -> Void,
        then next: @escaping @Sendable (EventLoop, Value) -> Void
    ) {
        ask(store) { [inbox] result in
            inbox.post { loop in
                switch result {
                case .success(let value): next(loop, value)
                case .failure(let error):
                    loop.log.error("the store cannot be read: \(error)")
                    loop.fail(request, EventLoop.storeUnavailable)
                }
            }
        }
    }

    /// The jobs with these ids, from memory or from the store, in their order.
    func records(
        _ ids: [JobID], _ request: PendingRequest,
        then next: @escaping @Sendable (EventLoop, [JobRecord]) -> Void
    ) {
        var known: [JobID: JobRecord] = [:]
        for id in ids { known[id] = core?.job(id) }
        let missing = ids.filter { known[$0] == nil }
        let inMemory = known
        guard !missing.isEmpty else { return next(self, ids.compactMap { inMemory[$0] }) }
        query(request) { (store, completion: @escaping DurableJobStore.Completion<FoundJobs>) in
            store.findJobs(missing) { result in
                completion(result.map { FoundJobs(found: $0.found, pruned: $0.pruned) })
            }
        } then: { loop, answer in
            var all = inMemory
            for record in answer.found { all[record.id] = record }
            for id in ids where all[id] == nil {
                let isPruned = answer.pruned.contains(id)
                return loop.fail(
                    request,
                    ErrorObject(
                        isPruned ? .gone : .unknownJob, .user,
                        isPruned ? "job \(id) was pruned" : "there is no job \(id)"))
            }
            next(loop, ids.compactMap { all[$0] })
        }
    }
}

struct FoundJobs: Sendable {
    var found: [JobRecord]
    var pruned: [JobID]
}
