// ChatTemplate: see docs/architecture.md
