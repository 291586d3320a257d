import Foundation
import Testing

/// Accumulators of the product kernel stay in registers: a compiler or a flag that puts them into memory halves the
/// speed, and nothing but the machine code tells.
@Suite struct SpillTests {
    @Test func accumulatorsOfTheTileStayInRegisters() throws {
        let objdump = "/usr/bin/objdump"
        let program = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        // The kernels are in the test bundle; the running program may be a loader of it.
        let maps = (try? String(contentsOfFile: "/proc/self/maps", encoding: .utf8)) ?? ""
        let bundle =
            maps.split(separator: "\n").lazy
            .compactMap { $0.split(separator: " ").last.map(String.init) }
            .first { $0.hasSuffix(".xctest") } ?? program
        guard FileManager.default.isExecutableFile(atPath: objdump) else { return }
        #if arch(x86_64)
            for variant in ["avx512", "avx512bf16"] {
                let process = Process()
                process.executableURL = URL(fileURLWithPath: objdump)
                process.arguments = [
                    "-d", "--no-show-raw-insn", "--disassemble=tile_of_\(variant)", bundle,
                ]
                let pipe = Pipe()
                process.standardOutput = pipe
                try process.run()
                let text = String(
                    decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
                process.waitUntilExit()
                let wide = text.split(separator: "\n").filter { $0.contains("%zmm") }
                let products = wide.filter { $0.contains("vfmadd") || $0.contains("vdpbf16ps") }
                #expect(products.count > 500, "the product kernel \(variant) is not in \(bundle)")
                let spilled = wide.filter { $0.contains("(%rsp)") || $0.contains("(%rbp)") }
                #expect(spilled.isEmpty, "\(spilled.prefix(5).joined(separator: "\n"))")
            }
        #endif
    }
}
