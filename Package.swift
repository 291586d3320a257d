// swift-tools-version: 6.1
import PackageDescription

// The layers are drawn in docs/architecture.md; which module may import which stands in
// Sources/allowed-imports.txt and is checked by `make lint`.

let argumentParser = Target.Dependency.product(
    name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let collections = Target.Dependency.product(name: "Collections", package: "swift-collections")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let grdb = Target.Dependency.product(name: "GRDB", package: "GRDB.swift")
let sqlite = Target.Dependency.product(name: "GRDBSQLite", package: "GRDB.swift")
let yams = Target.Dependency.product(name: "Yams", package: "Yams")

let package = Package(
    name: "loraq",
    products: [
        .executable(name: "loraq", targets: ["loraq"]),
        .executable(name: "loraqd", targets: ["loraqd"]),
        .executable(name: "lora-worker", targets: ["lora-worker"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        // System libraries and C
        .systemLibrary(name: "CZeroMQ", providers: [.apt(["libzmq3-dev"])]),
        .systemLibrary(name: "COpenBLAS", providers: [.apt(["libopenblas-dev"])]),
        .systemLibrary(name: "CPCRE2", providers: [.apt(["libpcre2-dev"])]),
        .target(name: "CLinux"),
        .target(name: "CKernels"),

        // Ground that every column stands on: durable files, digests, clocks, threads
        .target(name: "LinuxSystem", dependencies: ["CLinux", crypto]),

        .target(name: "JSONModel"),
        .target(name: "PatternMatching", dependencies: ["CPCRE2"]),

        // Queue
        .target(name: "ZeroMQ", dependencies: ["CZeroMQ", "CLinux"]),
        .target(name: "WireProtocol", dependencies: ["JSONModel"]),
        .target(name: "BrokerCore", dependencies: [collections]),
        .target(
            name: "JobStore",
            dependencies: ["BrokerCore", "JSONModel", "LinuxSystem", grdb, sqlite]),
        .target(
            name: "Broker",
            dependencies: [
                "BrokerCore", "JobStore", "WireProtocol", "ZeroMQ", "JSONModel", "LinuxSystem",
                "CLinux", collections,
                logging,
            ]),
        .target(
            name: "Conformance",
            dependencies: ["WireProtocol", "ZeroMQ", "JSONModel", "LinuxSystem"]),
        .target(
            name: "LoraqClient",
            dependencies: ["WireProtocol", "ZeroMQ", "JSONModel", "LinuxSystem", logging]),

        // Engine
        .target(name: "Kernels", dependencies: ["CKernels", "COpenBLAS", "LinuxSystem"]),
        .target(name: "ModelFiles", dependencies: ["JSONModel", "LinuxSystem"]),
        .target(
            name: "Tokenization",
            dependencies: ["PatternMatching", "ModelFiles", "JSONModel", "LinuxSystem"]),
        .target(name: "ChatTemplate", dependencies: ["ModelFiles", "JSONModel", collections]),
        .target(
            name: "LoRA",
            dependencies: ["Kernels", "ModelFiles", "PatternMatching", "JSONModel", "LinuxSystem"]),
        .target(
            name: "Transformer",
            dependencies: ["LoRA", "Kernels", "ModelFiles", "JSONModel", "LinuxSystem"]),
        .target(
            name: "Datasets",
            dependencies: [
                "Tokenization", "ChatTemplate", "ModelFiles", "JSONModel", "LinuxSystem",
            ]),
        .target(
            name: "FineTuning",
            dependencies: [
                "Datasets", "Transformer", "LoRA", "Kernels", "ModelFiles", "JSONModel",
                "LinuxSystem",
            ]),
        .target(
            name: "Generation",
            dependencies: [
                "Transformer", "LoRA", "Kernels", "Tokenization", "ChatTemplate", "ModelFiles",
                "JSONModel", "LinuxSystem",
                collections,
            ]),
        .target(
            name: "WorkerRuntime",
            dependencies: ["WireProtocol", "ZeroMQ", "JSONModel", "LinuxSystem", logging]),

        // Executables
        .executableTarget(
            name: "loraq",
            dependencies: [
                "Conformance", "LoraqClient", "WireProtocol", "JSONModel", "LinuxSystem",
                argumentParser, yams,
            ]),
        .executableTarget(
            name: "loraqd",
            dependencies: ["Broker", "BrokerCore", "LinuxSystem", argumentParser, logging]),
        .executableTarget(
            name: "lora-worker",
            dependencies: [
                "WorkerRuntime", "WireProtocol", "FineTuning", "Generation", "Datasets",
                "Transformer", "LoRA",
                "ChatTemplate", "Tokenization", "PatternMatching", "Kernels", "ModelFiles",
                "JSONModel", "LinuxSystem", argumentParser, logging,
            ]),
    ]
        + [
            "LinuxSystem", "JSONModel", "PatternMatching", "ZeroMQ", "WireProtocol", "BrokerCore",
            "JobStore", "Broker", "LoraqClient",
            "Kernels", "ModelFiles", "Tokenization", "ChatTemplate", "LoRA", "Transformer",
            "Datasets",
            "FineTuning", "Generation", "WorkerRuntime",
        ].map {
            .testTarget(
                name: "\($0)Tests", dependencies: [.byName(name: $0)],
                exclude: ["Tokenization", "ChatTemplate", "ModelFiles", "Transformer"].contains($0)
                    ? ["Fixtures"] : [])
        } + [
            .testTarget(
                name: "CommandLineTests",
                dependencies: ["loraq", "loraqd", "lora-worker"])
        ],
    swiftLanguageModes: [.v6]
)
