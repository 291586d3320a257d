import BrokerCore
import JSONModel
import LinuxSystem
import WireProtocol

extension EventLoop {
    /// Tells what was submitted as a job, and gives out pieces of its input files: so that the same can be run again.
    func input(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(InputRequest.self)
        resolveOne(header.job, request) { loop, id in
            loop.records([id], request) { loop, records in
                guard let record = records.first else {
                    return loop.fail(
                        request, ErrorObject(.unknownJob, .user, "there is no job \(id)"))
                }
                do {
                    try loop.reply(input: header, of: record, request)
                } catch {
                    loop.fail(request, EventLoop.errorObject(of: error))
                }
            }
        }
    }

    private func reply(
        input header: InputRequest, of record: JobRecord, _ request: PendingRequest
    ) throws {
        let reply = try Self.inputReply(record)
        guard let name = header.name else { return self.reply(request, reply) }
        guard let input = record.submission.inputs.first(where: { $0.name == name.text }),
            let content = input.blob.content
        else {
            throw ErrorObject(
                .badHeader, .user, "`name`: job \(record.id) has no input `\(name)`")
        }
        let path = blobs.path(of: content)
        let offset = max(0, header.offset ?? 0)
        let count = min(max(0, header.bytes ?? WireLimits.bodyBytes), WireLimits.bodyBytes)
        offload(reader) { () -> Result<[UInt8], ErrorObject> in
            do throws(SystemError) {
                let file = try DataFile(path: path, .reading)
                let size = try file.size()
                let first = min(offset, size)
                return .success(try file.read(at: first, count: min(count, size - first)))
            } catch {
                return .failure(BlobStore.wireError(error))
            }
        } then: { loop, result in
            switch result {
            case .failure(let error): loop.fail(request, error)
            case .success(let bytes):
                loop.reply(request, reply, bodies: [Message.Body("piece", bytes)])
            }
        }
    }

    private static func inputReply(_ record: JobRecord) throws -> InputReply {
        let submission = record.submission
        guard let kind = WireName(text: submission.kind) else {
            throw ErrorObject(.internalError, .internal, "the kind has no wire form")
        }
        let inputs = submission.inputs.compactMap { input -> InputReply.File? in
            guard let name = WireName(text: input.name),
                let digest = BlobDigest(text: input.blob.text)
            else { return nil }
            return InputReply.File(name: name, digest: digest, bytes: Int(input.bytes))
        }
        return InputReply(
            job: try record.id.wire(), kind: kind, spec: try JSONValue.parse(submission.spec),
            inputs: inputs, worker: submission.worker.flatMap(WireName.init(text:)))
    }
}
