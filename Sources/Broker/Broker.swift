// Broker: see docs/architecture.md
