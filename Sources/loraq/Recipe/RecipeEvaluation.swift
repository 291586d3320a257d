import JSONModel

extension RecipeDraft {
    /// What the recipe says of evaluations against what there is to evaluate, before anything is sent. The worker checks it too.
    ///
    /// - Parameter hasFile: Whether `--eval` names a file.
    func checkEvaluation(hasFile: Bool) throws(ToolError) {
        func value(_ name: String) -> JSONValue? { values.last { $0.name == name }?.value }
        let split = value("val_set_size")
        if split != nil, hasFile {
            throw ToolError.usage(
                "val_set_size and --eval cannot both be given: rows are held out or come from a file"
            )
        }
        let needing = ["load_best_model_at_end", "early_stopping_patience"].first {
            value($0).map { $0 != false } ?? false
        }
        guard let needing else { return }
        guard split != nil || hasFile else {
            throw ToolError.usage(
                "\(needing) needs rows to evaluate",
                hint: "give a file by --eval, or hold rows out: --set val_set_size=0.1")
        }
        guard value("eval_steps") != nil else {
            throw ToolError.usage(
                "\(needing) needs eval_steps: how many steps lie between evaluations",
                hint: "--set eval_steps=20")
        }
    }
}
