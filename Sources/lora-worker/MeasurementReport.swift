import Foundation
import JSONModel
import Kernels
import LinuxSystem
import ModelFiles
import Transformer

/// What this machine can do at most, by small programs that do nothing else.
final class MachinePeak {
    let compute: Compute
    /// The same threads with the instructions for bf16, where the machine has them.
    private let paired: Compute?
    /// As many bytes as the weights have: caches may hold a part of them, of these too.
    private let memory: Matrix

    struct Rates {
        /// Floating-point operations a second of float32 products.
        var float32 = 0.0
        /// Of bf16 products by their own instructions; nil where there are none.
        var bfloat16: Double?
        /// Bytes a second.
        var read = 0.0

        /// The faster way to multiply.
        var flopsPerSecond: Double { max(float32, bfloat16 ?? 0) }

        var json: JSONValue {
            func giga(_ value: Double) -> JSONValue { .number((value / 1e7).rounded() / 100) }
            return .object(
                JSONObject([
                    ("float32_gflops", giga(float32)),
                    ("bfloat16_gflops", bfloat16.map(giga) ?? .null), ("read_gb_s", giga(read)),
                ]))
        }

        var text: String {
            let bf16 = bfloat16.map { "\(Int($0 / 1e9)) bf16" } ?? "no bf16"
            let gigabytes = (read / 1e8).rounded() / 10
            return "\(Int(float32 / 1e9)) float32 and \(bf16) GFLOP/s, reads \(gigabytes) GB/s"
        }
    }

    init(_ compute: Compute, decoder: Decoder) throws {
        self.compute = compute
        let other = try? Compute(pool: compute.pool, instructionSet: .avx512bf16)
        paired = decoder.elementType == .bfloat16 ? other : nil
        let cost = WorkCost(
            .prefill(length: 1), decoder.config, rank: 0,
            elementBytes: decoder.elementType.byteCount)
        let bytes = min(max(Int(cost.bytes), 64 << 20), 2 << 30)
        memory = try Matrix(rows: bytes / 65_536 + 1, columns: 16_384)
        memory.fill(1)
    }

    func measure() throws -> Rates {
        let profile = compute.profile
        compute.profile = nil
        defer { compute.profile = profile }
        return Rates(
            float32: try compute.productRate(.float32) ?? 0,
            bfloat16: try paired?.productRate(.bfloat16),
            read: try compute.readRate(memory))
    }
}

/// Prints figures, each beside its limit.
final class MeasurementReport {
    private let measurement: EngineMeasurement
    private let machine: MachinePeak
    private let printsPhases: Bool
    private let printsJSON: Bool
    private var seconds: [[Double]]
    private var limits: [[Double]]
    private var last = MachinePeak.Rates()

    init(
        measurement: EngineMeasurement, machine: MachinePeak, printsPhases: Bool, printsJSON: Bool
    ) {
        self.measurement = measurement
        self.machine = machine
        self.printsPhases = printsPhases
        self.printsJSON = printsJSON
        seconds = measurement.works.map { _ in [] }
        limits = measurement.works.map { _ in [] }
        if printsPhases { measurement.compute.profile = ComputeProfile() }
    }

    private func print(_ members: [(key: String, value: JSONValue)]) {
        Swift.print(JSONValue.object(JSONObject(members)).text())
        fflush(nil)
    }

    func begin() {
        let compute = measurement.compute
        let type = measurement.decoder.elementType.rawValue
        guard printsJSON else {
            Swift.print(
                "\(type), \(compute.instructionSet.rawValue) kernels, \(compute.pool.threadCount) threads"
            )
            return
        }
        print([
            ("dtype", .string(type)), ("isa", .string(compute.instructionSet.rawValue)),
            ("threads", .integer(Int64(compute.pool.threadCount))),
            ("rank", .integer(Int64(measurement.rank))),
            ("works", .array(measurement.works.map { .string($0.name) })),
        ])
    }

    /// Measures the machine, then one round of a work.
    func round(_ index: Int) throws {
        let work = measurement.works[index]
        last = try machine.measure()
        let profile = measurement.compute.profile
        profile?.reset()
        let time = try measurement.round(index)
        let cost = WorkCost(
            work, measurement.decoder.config, rank: measurement.rank,
            elementBytes: measurement.decoder.elementType.byteCount)
        let limit = cost.limit(flopsPerSecond: last.flopsPerSecond, bytesPerSecond: last.read)
        seconds[index].append(time)
        limits[index].append(limit)
        guard printsJSON else { return }
        var members: [(key: String, value: JSONValue)] = [
            ("work", .string(work.name)), ("tokens", .integer(Int64(work.tokenCount))),
            ("seconds", .number(time)), ("limit_seconds", .number(limit)),
            ("gflop", .number(cost.flops / 1e9)), ("gb", .number(cost.bytes / 1e9)),
            ("peak", last.json),
            (
                "peak_resident_bytes",
                .integer(Int64(HostResources.peakResidentBytes() ?? 0))
            ),
        ]
        if let profile {
            let list = Self.phases(profile, measurement.decoder.config).map { name, total in
                JSONValue.object(
                    JSONObject([
                        ("phase", .string(name)), ("seconds", .number(total.seconds)),
                        ("calls", .integer(Int64(total.calls))),
                        ("gflop", .number(total.flops / 1e9)),
                    ]))
            }
            members.append(("phases", .array(list)))
        }
        print(members)
    }

    /// The figures of a work whose rounds are done.
    func finish(_ index: Int) {
        guard !printsJSON else { return }
        let work = measurement.works[index]
        let sorted = seconds[index].sorted()
        let best = sorted[0]
        let median = sorted[sorted.count / 2]
        let tokens = Double(work.tokenCount)
        let share = limits[index].sorted()[sorted.count / 2] / median
        Swift.print(
            "\(work.name): \((median * 1e5).rounded() / 100) ms median, \(Int(tokens / median)) tok/s median, "
                + "\(Int(tokens / best)) best, \(Int((100 * share).rounded())) % of the limit "
                + "(\(last.text))")
        if case .train = work {
            Swift.print("  peak memory \((HostResources.peakResidentBytes() ?? 0) >> 20) MiB")
        }
        guard let profile = measurement.compute.profile, let time = seconds[index].last else {
            return
        }
        var rest = time
        for (name, total) in Self.phases(profile, measurement.decoder.config) {
            rest -= total.seconds
            line(name, total.seconds, of: time, flops: total.flops, calls: total.calls)
        }
        line("between operations", rest, of: time, flops: 0, calls: 0)
    }

    private func line(_ name: String, _ spent: Double, of time: Double, flops: Double, calls: Int) {
        var text = String(
            format: "  %9.2f ms %5.1f %%  ", spent * 1e3, 100 * spent / time)
        text += name.padding(toLength: max(40, name.count), withPad: " ", startingAt: 0)
        if flops > 0, spent > 0 {
            let rate = flops / spent
            text += String(
                format: " %6.0f GFLOP/s, %3.0f %% of the machine's", rate / 1e9,
                100 * rate / last.flopsPerSecond)
        }
        if calls > 0 { text += "  (\(calls) calls)" }
        Swift.print(text)
    }

    /// Most seconds first, with the matrices' names.
    private static func phases(
        _ profile: ComputeProfile, _ config: ModelConfig
    ) -> [(name: String, total: ComputeProfile.Total)] {
        let inner = (config.gatedFeedForward ? 2 : 1) * config.intermediateSize
        let joined = config.queryWidth + 2 * config.keyValueWidth
        let names = [
            [joined, config.hiddenSize]: "queries, keys, values",
            [config.hiddenSize, config.queryWidth]: "attention output",
            [inner, config.hiddenSize]: "gate and up",
            [config.hiddenSize, config.intermediateSize]: "down",
            [config.vocabularySize, config.hiddenSize]: "head",
        ]
        var sums: [String: ComputeProfile.Total] = [:]
        for (phase, total) in profile.totals {
            var name = phase.operation.rawValue
            if phase.outputs > 0, phase.operation != .headLoss {
                let small = min(phase.outputs, phase.inputs)
                name +=
                    names[[phase.outputs, phase.inputs]].map { ": \($0)" }
                    ?? (small < config.hiddenSize / 4
                        ? ": low rank" : ": \(phase.outputs) × \(phase.inputs)")
            }
            sums[name, default: ComputeProfile.Total()].seconds += total.seconds
            sums[name, default: ComputeProfile.Total()].calls += total.calls
            sums[name, default: ComputeProfile.Total()].flops += total.flops
        }
        return sums.map { ($0.key, $0.value) }.sorted { $0.1.seconds > $1.1.seconds }
    }
}
