// Tokenization: see docs/architecture.md
