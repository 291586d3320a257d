// LoRA: see docs/architecture.md
