// BrokerCore: see docs/architecture.md
