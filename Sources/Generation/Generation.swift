// Generation: see docs/architecture.md
