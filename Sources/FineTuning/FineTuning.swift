// FineTuning: see docs/architecture.md
