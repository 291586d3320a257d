import BrokerCore
import LinuxSystem

/// Checks a batch file line by line and finds out where its lines lie, in constant memory (but for
/// 20 to 40 bytes per `custom_id`).
///
/// Blank lines are no lines of the batch; they only count for line numbers. The same file gives the
/// same parts, so after a crash splitting simply begins again.
struct BatchSplitter {
    /// What is told of a file as it is read.
    struct Part: Sendable {
        var blocks: [LineBlock] = []
        var badLines: [BadLine] = []
        /// Artifact references that no part before this one has named.
        var references: [String] = []

        var isEmpty: Bool { blocks.isEmpty && badLines.isEmpty && references.isEmpty }
    }

    enum Outcome: Sendable {
        /// `lines` counts all that are not blank.
        case finished(lines: Int)
        case failed(BrokerError)
        /// The caller wanted no more of it.
        case stopped
    }

    /// More lines than this are refused: ids are kept in memory while splitting.
    static let maximumLines = 20_000_000
    static let linesPerBlock = 1_000
    private static let blocksPerPart = 50
    private static let badLinesPerPart = 500
    private static let referencesPerPart = 500

    let blobPath: String
    let rules: LineRules

    /// Splits the file.
    ///
    /// - Parameter emit: Takes a part and says whether to go on; it may wait, which holds the
    ///   splitter back.
    func run(
        maximumLines: Int = Self.maximumLines, emit: (Part) -> Bool
    ) -> Outcome {
        do {
            return try split(maximumLines, emit)
        } catch let error as SystemError {
            return .failed(BrokerError(.internal, .internal, error.description))
        } catch {
            return .failed(BrokerError(.internal, .internal, "\(error)"))
        }
    }

    private func split(_ maximumLines: Int, _ emit: (Part) -> Bool) throws -> Outcome {
        var scanner = try LineScanner(path: blobPath)
        var identities = IdentitySet()
        var part = Part()
        var block: LineBlock?
        var number = 0
        var index = 0
        var references: Set<String> = []
        while let line = try scanner.next() {
            number += 1
            if line.isBlank { continue }
            guard index < maximumLines else {
                return .failed(
                    BrokerError(
                        .limit, .user, "the file has more than \(maximumLines) lines",
                        hint: "cut it into several jobs"))
            }
            if index % Self.linesPerBlock == 0 {
                if let block { part.blocks.append(block) }
                block = LineBlock(
                    firstIndex: index, offset: Int64(line.offset), firstNumber: Int64(number),
                    count: 0)
                if part.blocks.count >= Self.blocksPerPart {
                    if !emit(part) { return .stopped }
                    part = Part()
                }
            }
            block?.count += 1
            switch check(line, number: number, &identities) {
            case .success(let checked):
                if let model = checked.model, references.insert(model).inserted {
                    part.references.append(model)
                }
            case .failure(let fault):
                part.badLines.append(Self.badLine(fault, index, number))
            }
            if part.badLines.count >= Self.badLinesPerPart
                || part.references.count >= Self.referencesPerPart
            {
                if !emit(part) { return .stopped }
                part = Part()
            }
            index += 1
        }
        if let block { part.blocks.append(block) }
        if !part.isEmpty, !emit(part) { return .stopped }
        return .finished(lines: index)
    }

    private func check(
        _ line: LineScanner.Line, number: Int, _ identities: inout IdentitySet
    ) -> Result<CheckedLine, LineFault> {
        guard let bytes = line.json(number: number) else {
            return .failure(
                LineFault(
                    code: ErrorCode(rawValue: "TOO_LARGE"),
                    message: "the line has \(line.length) bytes, over the limit of "
                        + "\(LineScanner.maximumLineBytes)"))
        }
        do throws(LineFault) {
            let checked = try rules.check(bytes)
            guard let earlier = identities.insert(checked.customID, line: number) else {
                return .success(checked)
            }
            throw LineFault(
                code: .badLine,
                message: "`custom_id` is the same as on line \(earlier); each must be unique",
                customID: checked.customID)
        } catch {
            return .failure(error)
        }
    }

    private static func badLine(_ fault: LineFault, _ index: Int, _ number: Int) -> BadLine {
        BadLine(
            index: index, number: Int64(number), customID: fault.customID,
            error: BrokerError(fault.code, .user, fault.message))
    }
}
