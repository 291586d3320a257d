import BrokerCore
import GRDB
import GRDBSQLite
import JSONModel

/// A prepared statement of the writing connection, bound and run by position. Not `Sendable`: its connection's thread only.
struct PreparedWrite {
    private let statement: Statement
    private let handle: OpaquePointer
    private let connection: OpaquePointer
    private var position: Int32 = 0

    init(_ database: Database, _ sql: String) throws {
        statement = try database.makeStatement(sql: sql)
        handle = statement.sqliteStatement
        guard let connection = sqlite3_db_handle(handle) else {
            throw StoreError(.cannotOpen, "statement without a connection")
        }
        self.connection = connection
    }

    mutating func bind(_ value: Int64?) {
        position += 1
        if let value {
            sqlite3_bind_int64(handle, position, value)
        } else {
            sqlite3_bind_null(handle, position)
        }
    }

    mutating func bind(_ value: Int?) { bind(value.map(Int64.init)) }
    mutating func bind(_ value: Int32?) { bind(value.map(Int64.init)) }
    mutating func bind(_ value: Bool) { bind(value ? Int64(1) : 0) }

    mutating func bind(_ value: Double?) {
        position += 1
        if let value {
            sqlite3_bind_double(handle, position, value)
        } else {
            sqlite3_bind_null(handle, position)
        }
    }

    mutating func bind(_ value: String?) {
        position += 1
        guard var value else {
            sqlite3_bind_null(handle, position)
            return
        }
        value.withUTF8 { bindText($0) }
    }

    /// UTF-8 text as bytes.
    mutating func bind(text value: [UInt8]) {
        position += 1
        value.withUnsafeBufferPointer { bindText($0) }
    }

    private func bindText(_ bytes: UnsafeBufferPointer<UInt8>) {
        // SQLITE_TRANSIENT: SQLite copies the bytes before this returns.
        let transient = unsafeBitCast(-1, to: sqlite3_destructor_type.self)
        let start = UnsafeRawPointer(bytes.baseAddress)?.assumingMemoryBound(to: CChar.self)
        if let start {
            sqlite3_bind_text(handle, position, start, Int32(bytes.count), transient)
        } else {
            sqlite3_bind_text(handle, position, "", 0, transient)
        }
    }

    /// Runs the statement with what was bound.
    mutating func run() throws {
        position = 0
        let code = sqlite3_step(handle)
        sqlite3_reset(handle)
        guard code == SQLITE_DONE || code == SQLITE_ROW else {
            throw StoreError(
                .commitFailed, String(cString: sqlite3_errmsg(connection)),
                sqliteCode: sqlite3_extended_errcode(connection))
        }
    }
}

// MARK: JSON columns

/// Numbers by name as one JSON object with sorted keys; nil for none. NaN and infinities, which JSON lacks, are left out.
func numbersText(_ numbers: [String: Double]) -> String? {
    guard !numbers.isEmpty else { return nil }
    let entries = numbers.sorted { $0.key < $1.key }
        .filter { $0.value.isFinite }
        .map { (key: $0.key, value: JSONValue.number($0.value)) }
    return JSONValue.object(JSONObject(entries)).text()
}

func numbers(_ text: String?) throws -> [String: Double] {
    guard let text else { return [:] }
    var numbers: [String: Double] = [:]
    for entry in try JSONValue.parse(text).object?.entries ?? [] {
        numbers[entry.key] = entry.value.double
    }
    return numbers
}

func errorText(_ error: BrokerError?) -> String? {
    guard let error else { return nil }
    var object = JSONObject()
    object["code"] = .string(error.code.rawValue)
    object["class"] = .string(error.errorClass.rawValue)
    object["message"] = .string(error.message)
    object["hint"] = error.hint.map { .string($0) }
    object["retry_after_ms"] = error.retryAfterMilliseconds.map { .integer(Int64($0)) }
    if !error.details.isEmpty {
        let details = error.details.sorted { $0.key < $1.key }
            .map { (key: $0.key, value: detailValue($0.value)) }
        object["details"] = .object(JSONObject(details))
    }
    if let opaque = error.opaqueDetails {
        object["worker_details"] = .string(String(decoding: opaque, as: UTF8.self))
    }
    return JSONValue.object(object).text()
}

private func detailValue(_ value: DetailValue) -> JSONValue {
    switch value {
    case .text(let text): .string(text)
    case .integer(let number): .integer(number)
    // Kept apart from integers when read back.
    case .number(let number):
        .array([.string("number"), number.isFinite ? .number(number) : .null])
    case .list(let items): .array([.string("list")] + items.map { .string($0) })
    }
}

func brokerError(_ text: String?) throws -> BrokerError? {
    guard let text else { return nil }
    let value = try JSONValue.parse(text)
    var error = BrokerError(
        ErrorCode(rawValue: value["code"]?.string ?? "INTERNAL"),
        ErrorClass(rawValue: value["class"]?.string ?? "") ?? .internal,
        value["message"]?.string ?? "", hint: value["hint"]?.string,
        retryAfterMilliseconds: value["retry_after_ms"]?.integer)
    for entry in value["details"]?.object?.entries ?? [] {
        switch entry.value {
        case .string(let text): error.details[entry.key] = .text(text)
        case .integer(let number): error.details[entry.key] = .integer(number)
        case .array(let items) where items.first?.string == "number":
            error.details[entry.key] = .number(items.last?.double ?? .nan)
        case .array(let items):
            error.details[entry.key] = .list(items.dropFirst().compactMap(\.string))
        default: break
        }
    }
    error.opaqueDetails = value["worker_details"]?.string.map { Array($0.utf8) }
    return error
}

/// The metrics that a task is told, as a JSON list.
func toldText(_ names: [String]?) -> String? {
    names.map { JSONValue.array($0.map { .string($0) }).text() }
}

func toldMetrics(_ text: String?) throws -> [String]? {
    guard let text else { return nil }
    return try JSONValue.parse(text).array?.compactMap(\.string)
}

func failuresText(_ failures: FailureCounts) -> String? {
    guard failures != FailureCounts() else { return nil }
    var object = JSONObject()
    func put(_ name: String, _ count: Int) {
        if count > 0 { object[name] = .integer(Int64(count)) }
    }
    put("retryable", failures.retryable)
    put("crash", failures.crash)
    put("lost", failures.lost)
    put("timeout", failures.timeout)
    put("preempted", failures.preempted)
    put("shared", failures.shared)
    return JSONValue.object(object).text()
}

func failureCounts(_ text: String?) throws -> FailureCounts {
    var counts = FailureCounts()
    guard let text else { return counts }
    let value = try JSONValue.parse(text)
    counts.retryable = value["retryable"]?.integer ?? 0
    counts.crash = value["crash"]?.integer ?? 0
    counts.lost = value["lost"]?.integer ?? 0
    counts.timeout = value["timeout"]?.integer ?? 0
    counts.preempted = value["preempted"]?.integer ?? 0
    counts.shared = value["shared"]?.integer ?? 0
    return counts
}
