import ArgumentParser

/// The subcommands by name, for errors that the argument parser cannot tell well.
enum CommandNames {
    /// The subcommands of a command, by name.
    static func below(_ command: any ParsableCommand.Type) -> [String: any ParsableCommand.Type] {
        var names: [String: any ParsableCommand.Type] = [:]
        for subcommand in command.configuration.subcommands {
            names[subcommand._commandName] = subcommand
        }
        return names
    }

    /// How many of the first words name commands: 1, or 2 for those of a group.
    static func words(of arguments: [String]) -> Int {
        guard let first = arguments.first, let command = below(Loraq.self)[first] else { return 0 }
        guard arguments.count > 1, !command.configuration.subcommands.isEmpty,
            !arguments[1].hasPrefix("-")
        else { return 1 }
        return command == Sweep.self && below(command)[arguments[1]] == nil ? 1 : 2
    }

    /// Refuses a first word, or the word behind a group's name or behind `help`, that is no command, with the likely one.
    static func check(_ arguments: [String]) throws(ToolError) {
        guard let first = arguments.first, !first.hasPrefix("-") else { return }
        if first == "help" {
            let words = arguments.dropFirst().prefix { !$0.hasPrefix("-") }
            var command: any ParsableCommand.Type = Loraq.self
            for word in words { command = try find(word, below: command) }
            return
        }
        let command = try find(first, below: Loraq.self)
        guard arguments.count > 1, !arguments[1].hasPrefix("-"),
            !command.configuration.subcommands.isEmpty, arguments[1] != "help"
        else { return }
        // Its default subcommand takes words of a person's own.
        if command == Sweep.self { return }
        _ = try find(arguments[1], below: command)
    }

    private static func find(
        _ word: String, below command: any ParsableCommand.Type
    ) throws(ToolError) -> any ParsableCommand.Type {
        let names = below(command)
        if let found = names[word] { return found }
        let likely = Suggestion.nearest(to: word, among: names.keys.sorted())
        let path = command == Loraq.self ? "loraq" : "loraq \(command._commandName)"
        throw ToolError.usage(
            "there is no command `\(path) \(TextTable.oneLine(word))`"
                + (likely.map { "; did you mean `\($0)`?" } ?? ""),
            hint: "`\(path) --help` lists what there is")
    }

    /// A word that is a number below 0 and no option's value, which the argument parser takes for an option.
    static func negativeNumber(in arguments: [String]) -> String? {
        arguments.indices.first { place in
            arguments[place].hasPrefix("-") && Double(arguments[place]) != nil
                && !(place > 0 && arguments[place - 1].hasPrefix("-"))
        }.map { arguments[$0] }
    }
}
