import JSONModel
import WireProtocol

/// One recipe of a sweep, and what is different about it.
struct SweepCandidate {
    /// `r=8 learning_rate=1e-3`
    var title: String
    var settings: JSONObject
    var recipe: RecipeDraft
}

/// `--grid r=4,8 learning_rate=1e-4,3e-4`: every combination of the values.
struct SweepGrid {
    struct Axis: Equatable {
        let name: String
        let values: [String]
    }

    let axes: [Axis]

    /// - Throws: A usage error that names the word: no `name=value`, a name twice, no value, a value twice, too many.
    init(_ words: [String]) throws(ToolError) {
        var axes: [Axis] = []
        for word in words {
            guard let equals = word.firstIndex(of: "="), equals != word.startIndex else {
                throw ToolError.usage(
                    "--grid \(TextTable.oneLine(word)): expected name=value,value,…",
                    hint: "for example --grid r=4,8,16 learning_rate=1e-4,3e-4")
            }
            let name = String(word[..<equals])
            if axes.contains(where: { $0.name == name }) {
                throw ToolError.usage("--grid \(word): \(name) is given twice")
            }
            let values = word[word.index(after: equals)...]
                .split(separator: ",", omittingEmptySubsequences: false).map(String.init)
            if values.contains("") {
                throw ToolError.usage("--grid \(word): a value is missing")
            }
            for (index, value) in values.enumerated() where values[..<index].contains(value) {
                throw ToolError.usage("--grid \(word): \(value) is given twice")
            }
            axes.append(Axis(name: name, values: values))
        }
        let count = axes.reduce(1) {
            $0.multipliedReportingOverflow(by: $1.values.count).partialValue
        }
        guard (1...ChooseSpec.maximumCandidates).contains(count), axes.count <= 16 else {
            throw ToolError.usage(
                "--grid has \(count) combinations, at most \(ChooseSpec.maximumCandidates) make one sweep",
                hint: "first a coarse grid, then a finer one around its best")
        }
        self.axes = axes
    }

    /// All combinations, the last axis fastest. A `+` between module names makes a list of them: `q_proj+v_proj`.
    func candidates(_ base: RecipeDraft) throws(ToolError) -> [SweepCandidate] {
        var result = [SweepCandidate(title: "", settings: JSONObject(), recipe: base)]
        for axis in axes {
            var next: [SweepCandidate] = []
            for before in result {
                for value in axis.values {
                    var candidate = before
                    let isModules = RecipeFields.field(named: axis.name)?.kind == .modules
                    let text = isModules ? value.replacing("+", with: ",") : value
                    try candidate.recipe.apply(
                        setting: "\(axis.name)=\(text)", option: "--grid")
                    candidate.title += (before.title.isEmpty ? "" : " ") + "\(axis.name)=\(value)"
                    candidate.settings[axis.name] = candidate.recipe.value(of: axis.name)
                    next.append(candidate)
                }
            }
            result = next
        }
        return result
    }
}

extension RecipeDraft {
    func value(of name: String) -> JSONValue? { values.first { $0.name == name }?.value }
}
