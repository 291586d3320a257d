import ArgumentParser

/// The LoRA engine as a worker plugin, and as a tool for a person at a terminal.
struct LoraWorker: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lora-worker",
        abstract:
            "Computes LoRA fine-tunes and inference for loraq; started by loraqd, or by hand as a tool.",
        version: EngineNumerics.version,
        subcommands: [
            ServeCommand.self, VerifyCommand.self, TokenizeSubcommand.self,
            RenderSubcommand.self, AdapterGGUFCommand.self, MeasureCommand.self,
        ])
}
