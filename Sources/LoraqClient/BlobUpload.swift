import Foundation
import JSONModel
import LinuxSystem
import WireProtocol

/// A file that the broker has as a blob.
public struct UploadedFile: Sendable, Equatable {
    public let digest: ContentDigest
    public let bytes: Int
}

/// Where an upload stands.
public struct UploadProgress: Sendable, Equatable {
    public enum Phase: Sendable { case reading, sending }
    public let phase: Phase
    /// Bytes of `total` read or sent; bytes that the broker had already count as sent.
    public let done: Int
    public let total: Int
}

/// Sends a file to the broker in pieces of 4 MiB, by digest: what the broker has already is not sent again,
/// so an upload that broke off goes on where it stopped. The file is never in memory as a whole.
public struct BlobUpload {
    static let pieceBytes = WireLimits.bodyBytes
    /// Answers in a row that do not move on before the upload is given up.
    static let patience = 5

    private let client: BrokerClient
    private let policy: RequestPolicy
    private let report: (UploadProgress) -> Void

    public init(
        client: BrokerClient, policy: RequestPolicy = .persistent,
        report: @escaping (UploadProgress) -> Void = { _ in }
    ) {
        self.client = client
        self.policy = policy
        self.report = report
    }

    /// Reads the file once for its digest, asks what is there, and sends the rest.
    public func send(_ path: String) throws(ClientError) -> UploadedFile {
        let handle: FileHandle
        do {
            handle = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
        } catch {
            throw Self.failure("open", path, error)
        }
        defer { try? handle.close() }
        let file = try digest(of: handle, path)
        var received = try put(file, offset: 0, piece: nil)
        var stuck = 0
        while !received.complete {
            guard received.count < file.bytes else {
                throw ClientError(
                    .badAnswer,
                    "the broker has all \(file.bytes) bytes of \(path), yet asks for more")
            }
            report(UploadProgress(phase: .sending, done: received.count, total: file.bytes))
            let piece = try read(handle, path, at: received.count, atMost: Self.pieceBytes)
            guard !piece.isEmpty else { throw Self.changed(path) }
            let before = received.count
            do {
                received = try put(file, offset: before, piece: piece)
            } catch  where error.kind == .refused(.digestMismatch) {
                throw Self.changed(path)
            }
            stuck = received.count > before || received.complete ? 0 : stuck + 1
            guard stuck < Self.patience else {
                throw ClientError(
                    .badAnswer, "the broker keeps asking for \(path) from byte \(before) on")
            }
        }
        report(UploadProgress(phase: .sending, done: file.bytes, total: file.bytes))
        return file
    }

    private func digest(of handle: FileHandle, _ path: String) throws(ClientError) -> UploadedFile {
        let size: Int
        do throws(SystemError) {
            size = try FilePath.size(of: path)
        } catch {
            throw ClientError(file: error)
        }
        var builder = DigestBuilder()
        var count = 0
        while true {
            if client.connection.isInterrupted() { throw .interrupted }
            let piece = try read(handle, path, at: nil, atMost: Self.pieceBytes)
            if piece.isEmpty { break }
            builder.update(piece)
            count += piece.count
            report(UploadProgress(phase: .reading, done: count, total: max(size, count)))
        }
        return UploadedFile(digest: builder.finish(), bytes: count)
    }

    private func put(
        _ file: UploadedFile, offset: Int, piece: [UInt8]?
    ) throws(ClientError) -> (count: Int, complete: Bool) {
        let header: JSONObject = [
            "digest": .string(file.digest.text), "bytes_total": .integer(Int64(file.bytes)),
            "offset": .integer(Int64(offset)),
        ]
        let bodies = piece.map { [Message.Body("piece", $0)] } ?? []
        let reply = try client.connection.request(.put, header, bodies: bodies, policy: policy)
        guard let count = reply.header["received"]?.integer, count >= 0, count <= file.bytes else {
            throw ClientError(.badAnswer, "the broker's answer to PUT has no usable `received`")
        }
        return (count, reply.header["complete"]?.bool ?? false)
    }

    private func read(
        _ handle: FileHandle, _ path: String, at offset: Int?, atMost count: Int
    ) throws(ClientError) -> [UInt8] {
        do {
            if let offset { try handle.seek(toOffset: UInt64(offset)) }
            return [UInt8](try handle.read(upToCount: count) ?? Data())
        } catch {
            throw Self.failure("read", path, error)
        }
    }

    private static func failure(
        _ operation: String, _ path: String, _ error: any Error
    ) -> ClientError {
        let code = posixCode(of: error)
        return ClientError(file: SystemError(operation: operation, path: path, code: code))
    }

    /// Foundation wraps the errno; EIO where it hides it.
    private static func posixCode(of error: any Error) -> Int32 {
        let bridged = error as NSError
        let under = bridged.userInfo[NSUnderlyingErrorKey] as? NSError ?? bridged
        if under.domain == NSPOSIXErrorDomain { return Int32(under.code) }
        switch (error as? CocoaError)?.code {
        case .fileReadNoSuchFile, .fileNoSuchFile: return ENOENT
        case .fileReadNoPermission: return EACCES
        default: return EIO
        }
    }

    private static func changed(_ path: String) -> ClientError {
        ClientError(
            .file, "\(path) changed while it was uploaded",
            hint: "wait until nothing writes to it, then run the command again")
    }
}
