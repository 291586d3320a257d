// Transformer: see docs/architecture.md
