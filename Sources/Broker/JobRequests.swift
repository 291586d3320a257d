import BrokerCore
import JSONModel
import JobStore
import LinuxSystem
import WireProtocol

extension EventLoop {
    /// What a header may hold beside the frame layout's own fields.
    static let headerRoom = 56 << 10

    // MARK: Changing jobs

    func cancel(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(CancelRequest.self)
        resolve(header.jobs, request) { loop, ids in
            guard loop.core != nil else { return loop.fail(request, EventLoop.storeUnavailable) }
            loop.step(.cancel(ids, reason: header.reason, request: loop.expectReply(request)))
        }
    }

    func select(
        _ message: Message, _ request: PendingRequest,
        _ event: @escaping @Sendable ([JobID], RequestID) -> Event
    ) throws {
        let header = try message.decode(SelectRequest.self)
        resolve(header.jobs, request) { loop, ids in
            guard loop.core != nil else { return loop.fail(request, EventLoop.storeUnavailable) }
            loop.step(event(ids, loop.expectReply(request)))
        }
    }

    func retry(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(RetryRequest.self)
        resolveOne(header.job, request) { loop, id in
            guard loop.core != nil else { return loop.fail(request, EventLoop.storeUnavailable) }
            loop.step(
                .retry(
                    id, scope: header.only == .all ? .all : .failed,
                    anyNumerics: header.numerics == .any, request: loop.expectReply(request)))
        }
    }

    // MARK: Looking at jobs

    func status(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(StatusRequest.self)
        let showsSpecs = header.spec ?? false
        resolve(header.jobs, request) { loop, ids in
            var rest = ids[...]
            if let after = header.after, !after.isEmpty {
                guard let place = ids.firstIndex(where: { $0.text == after }) else {
                    return loop.fail(request, Self.lostPlace)
                }
                rest = ids[(place + 1)...]
            }
            let page = Array(rest.prefix(WireLimits.page))
            let isLast = page.count == rest.count
            loop.records(page, request) { loop, records in
                // Results of a few jobs are shown with them; for many there is FETCH.
                let wanted = ids.count > 16 ? [] : records.filter(Self.hasResultObject)
                // The core is ahead of the disk: a result can be read once the commit that ended
                // its job is through.
                loop.batch.deferred.append(
                    .run { loop, isCommitted in
                        guard isCommitted else {
                            return loop.fail(request, EventLoop.storeUnavailable)
                        }
                        loop.loadResults(wanted[...], [:], request) { loop, results in
                            loop.replyJobs(
                                records, results, request, isLast: isLast,
                                showsSpecs: showsSpecs, cursor: \.id.text)
                        }
                    })
            }
        }
    }

    private static let lostPlace = ErrorObject(
        .badHeader, .user, "`after` names none of these jobs (any more)",
        hint: "ask again without `after`")

    private static func hasResultObject(_ record: JobRecord) -> Bool {
        !record.submission.shape.isLines && record.status.state.isFinal
            && record.status.resultCount > 0
    }

    /// Reads the result objects of jobs of one task, one after the other.
    private func loadResults(
        _ records: ArraySlice<JobRecord>, _ loaded: [JobID: JSONValue], _ request: PendingRequest,
        _ next: @escaping @Sendable (EventLoop, [JobID: JSONValue]) -> Void
    ) {
        guard let record = records.first else { return next(self, loaded) }
        let rest = records.dropFirst()
        let id = record.id
        query(request) { store, completion in
            store.results(
                ResultQuery(job: id, stream: .all, order: .completion, limit: 100),
                completion: completion)
        } then: { loop, page in
            let directory = loop.home.run(of: id.text)
            loop.offload(loop.reader) { () -> JSONValue? in
                guard let location = page.results.last?.location, location.length < 48 << 10,
                    let bytes = try? SegmentReader.lines(
                        [SegmentClaim(location)], directory: directory)
                else { return nil }
                return try? JSONValue.parse(bytes)
            } then: { loop, value in
                var loaded = loaded
                loaded[id] = value
                loop.loadResults(rest, loaded, request, next)
            }
        }
    }

    /// Answers with as many jobs as a header holds, at least one, and with a cursor if any are left.
    ///
    /// - Parameters:
    ///   - isLast: Whether nothing follows these records.
    ///   - cursor: What to go on after, from the last record that was sent.
    private func replyJobs(
        _ records: [JobRecord], _ results: [JobID: JSONValue], _ request: PendingRequest,
        isLast: Bool, showsSpecs: Bool = false, cursor: (JobRecord) -> String
    ) {
        var jobs: [JobObject] = []
        var room = Self.headerRoom
        var sent: JobRecord?
        var isCut = false
        for record in records {
            do {
                var object = try jobObject(record, results[record.id])
                if showsSpecs { object.spec = try? JSONValue.parse(record.submission.spec) }
                room -= try WireEncoder.encode(object).serialized().count
                isCut = room < 0 && !jobs.isEmpty
                if isCut { break }
                if room < 0 { object.result = nil }
                jobs.append(object)
            } catch {
                log.error("job \(record.id) has no wire form: \(error)")
            }
            sent = record
        }
        let next = isLast && !isCut ? nil : sent.map(cursor)
        reply(request, JobsReply(jobs: jobs, next: next))
    }

    private func jobObject(_ record: JobRecord, _ result: JSONValue?) throws(WireError) -> JobObject
    {
        let id = record.id
        let explanation = record.status.state == .running ? nil : core?.explain(id, at: moment)
        var object = try record.wire(
            progress: core?.progress(of: id), explanation: explanation, result: result)
        object.lines = lineCounts(of: record)
        return object
    }

    func list(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(ListRequest.self)
        var filter = JobFilter()
        filter.state = header.state.flatMap { JobState(rawValue: $0.rawValue) }
        filter.kind = header.kind?.text
        filter.tenant = header.tenant?.text
        filter.label = header.label
        let after = try Self.number(header.after, "after")
        let limit = Self.pageLimit(header.limit)
        let asked = filter
        query(request) { store, completion in
            store.listJobs(asked, after: after, limit: limit + 1, completion: completion)
        } then: { loop, records in
            let page = Array(records.prefix(limit))
            loop.replyJobs(
                page, [:], request, isLast: records.count <= limit,
                cursor: { String($0.sequence) })
        }
    }

    static func number(_ cursor: String?, _ key: String) throws(ErrorObject) -> Int64? {
        guard let cursor, !cursor.isEmpty else { return nil }
        guard let number = Int64(cursor), number >= 0 else {
            throw ErrorObject(.badHeader, .user, "`\(key)` is no cursor that this broker gave")
        }
        return number
    }

    static func pageLimit(_ limit: Int?, default standard: Int = WireLimits.page) -> Int {
        min(max(1, limit ?? standard), 1_000)
    }

    func explain(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(ExplainRequest.self)
        resolveOne(header.job, request) { loop, id in
            loop.records([id], request) { loop, records in
                guard let record = records.first else { return }
                let reason =
                    loop.core?.explain(id, at: loop.moment)?.wire ?? Self.reason(ofEnded: record)
                do {
                    loop.reply(
                        request,
                        ExplainReply(
                            job: try id.wire(), state: try record.status.state.wire(),
                            reason: reason))
                } catch {
                    loop.fail(request, EventLoop.errorObject(of: error))
                }
            }
        }
    }

    /// Of a job that only the store remembers.
    private static func reason(ofEnded record: JobRecord) -> ReasonObject {
        if let error = record.status.error {
            return ReasonObject(
                code: error.code.rawValue, message: error.message, details: error.details.json)
        }
        let state = record.status.state.rawValue
        return ReasonObject(code: state.uppercased(), message: "the job has ended: \(state)")
    }

    func listEvents(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(EventsRequest.self)
        let after = try Self.number(header.after, "after") ?? 0
        let limit = Self.pageLimit(header.limit)
        guard let selector = header.job else {
            return events(after: after, limit: limit, job: nil, request)
        }
        resolveOne(selector, request) { loop, id in
            loop.events(after: after, limit: limit, job: id, request)
        }
    }

    private func events(after: Int64, limit: Int, job: JobID?, _ request: PendingRequest) {
        query(request) { (store, completion: @escaping DurableJobStore.Completion<FoundEvents>) in
            store.events(after: after, limit: limit, job: job) { result in
                completion(result.map { FoundEvents(events: $0.events, oldest: $0.oldest) })
            }
        } then: { loop, page in
            var objects: [EventObject] = []
            var room = EventLoop.headerRoom
            var next = after
            for event in page.events {
                guard let object = try? event.wire(last: after),
                    let size = try? WireEncoder.encode(object).serialized().count
                else { continue }
                room -= size
                if room < 0, !objects.isEmpty { break }
                objects.append(object)
                next = event.number ?? next
            }
            loop.replyNow(
                request,
                EventsReply(
                    events: objects, next: String(next), oldest: String(max(0, page.oldest - 1))))
        }
    }
}

struct FoundEvents: Sendable {
    var events: [BrokerEvent]
    var oldest: Int64
}
