// JobStore: see docs/architecture.md
