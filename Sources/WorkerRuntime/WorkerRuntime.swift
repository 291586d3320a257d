// WorkerRuntime: see docs/architecture.md
