/// The named classes of Oniguruma (`\w`, `[:alpha:]`, `\p{Han}`), as insides of PCRE2's classes.
///
/// Each was compared with the library over every scalar.
struct OnigurumaClasses: Sendable {
    /// Whether `NewerScalars` are part of the classes.
    let exact: Bool

    /// A set of characters, as the inside of a class, or what is not in it.
    struct NamedSet: Sendable {
        var content: String
        var isNegated = false

        /// What says it inside of a class, if anything does.
        var classItem: String? {
            if !isNegated { return content }
            return isOneProperty ? negatedProperty : nil
        }

        /// An expression that matches one character.
        var expression: String {
            if isOneProperty { return isNegated ? negatedProperty : content }
            return isNegated ? "[^\(content)]" : "[\(content)]"
        }

        private var isOneProperty: Bool {
            content == "\\s"
                || (content.hasPrefix("\\p{")
                    && content.firstIndex(of: "}") == content.indices.last)
        }

        private var negatedProperty: String {
            content == "\\s" ? "\\S" : "\\P" + content.dropFirst(2)
        }
    }

    private func newer(_ isWanted: (NewerScalars.Row) -> Bool) -> String {
        exact ? NewerScalars.classItems(isWanted) : ""
    }

    /// `\w`. Outside of a class it takes the Latin-1 digits in superscript and the fractions too.
    func word(quirk: Bool) -> NamedSet {
        NamedSet(
            content: #"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}"# + (quirk ? #"\xb2\xb3\xb9\xbc-\xbe"# : "")
                + newer {
                    $0.flags.contains("A") || $0.category.hasPrefix("M") || $0.category == "Nd"
                })
    }

    /// `\s`, `\d` and `\h`.
    func escaped(_ letter: UInt8) -> NamedSet {
        switch letter {
        case UInt8(ascii: "s"): NamedSet(content: space)
        case UInt8(ascii: "d"): category("Nd")
        default: NamedSet(content: "0-9A-Fa-f")
        }
    }

    /// White_Space; PCRE2's `\s` has U+180E too.
    private var space: String {
        exact
            ? #"\t-\r\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"#
            : "\\s"
    }

    private func category(_ name: String) -> NamedSet {
        let wanted = name == "LC" ? ["Lu", "Ll", "Lt"] : [name]
        return NamedSet(
            content: "\\p{\(name)}"
                + newer { row in wanted.contains { row.category.hasPrefix($0) } })
    }

    /// Alphabetic of Unicode 16, which has marks that it had not before.
    private var alphabetic: String {
        #"\p{Alphabetic}\x{363}-\x{36f}\x{c04}\x{f82}\x{f83}\x{1dd3}-\x{1de6}\x{11080}\x{11081}"#
            + newer { $0.flags.contains("A") }
    }

    private var lowercase: String {
        #"\p{Lowercase}\x{10fc}\x{a7f2}-\x{a7f4}\x{ab69}"# + newer { $0.flags.contains("L") }
    }

    /// `[:name:]`; nil if there is no such class.
    func bracket(_ name: String) -> NamedSet? {
        switch name {
        case "alpha": NamedSet(content: alphabetic)
        case "alnum": NamedSet(content: alphabetic + category("Nd").content)
        case "digit": category("Nd")
        case "upper": NamedSet(content: "\\p{Uppercase}" + newer { $0.flags.contains("U") })
        case "lower": NamedSet(content: lowercase)
        case "punct": NamedSet(content: category("P").content + category("S").content)
        case "space": NamedSet(content: space)
        case "cntrl": NamedSet(content: "\\p{Cc}")
        case "graph": NamedSet(content: graphic)
        case "print": NamedSet(content: graphic + "\\p{Zs}")
        case "xdigit": NamedSet(content: "0-9A-Fa-f")
        case "blank": NamedSet(content: "\\p{Zs}\\t")
        case "ascii": NamedSet(content: "\\x00-\\x7f")
        case "word": word(quirk: false)
        default: nil
        }
    }

    private var graphic: String {
        #"\p{L}\p{M}\p{N}\p{P}\p{S}\p{Cf}\p{Co}"# + newer { _ in true }
    }

    // MARK: Properties

    private static let categories = [
        "L", "Lu", "Ll", "Lt", "Lm", "Lo", "LC", "M", "Mn", "Mc", "Me", "N", "Nd", "Nl", "No", "P",
        "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S", "Sm", "Sc", "Sk", "So", "Z", "Zs", "Zl",
        "Zp", "Cc", "Cf", "Co", "Cn", "C",
    ]
    private static let categoryNames: [String: String] = [
        "letter": "L", "uppercaseletter": "Lu", "lowercaseletter": "Ll", "titlecaseletter": "Lt",
        "modifierletter": "Lm", "otherletter": "Lo", "casedletter": "LC", "mark": "M",
        "combiningmark": "M", "nonspacingmark": "Mn", "spacingmark": "Mc", "enclosingmark": "Me",
        "number": "N", "decimalnumber": "Nd", "letternumber": "Nl", "othernumber": "No",
        "punctuation": "P", "punct": "P", "connectorpunctuation": "Pc", "dashpunctuation": "Pd",
        "openpunctuation": "Ps", "closepunctuation": "Pe", "initialpunctuation": "Pi",
        "finalpunctuation": "Pf", "otherpunctuation": "Po", "symbol": "S", "mathsymbol": "Sm",
        "currencysymbol": "Sc", "modifiersymbol": "Sk", "othersymbol": "So", "separator": "Z",
        "spaceseparator": "Zs", "lineseparator": "Zl", "paragraphseparator": "Zp", "control": "Cc",
        "format": "Cf", "privateuse": "Co", "unassigned": "Cn", "other": "C",
    ]
    /// Properties that PCRE2 has under the same name, and the flag of their newer scalars.
    private static let properties: [String: Character?] = [
        "emoji": "E", "emojipresentation": "P", "emojimodifier": nil, "emojimodifierbase": nil,
        "emojicomponent": nil, "extendedpictographic": nil, "whitespace": nil, "dash": nil,
        "hexdigit": nil, "asciihexdigit": nil, "joincontrol": nil, "quotationmark": nil,
        "regionalindicator": nil, "variationselector": nil, "patternwhitespace": nil,
    ]

    /// `\p{name}`; nil if the library or PCRE2 does not know it.
    func property(_ name: String) -> NamedSet? {
        let key = name.filter { $0 != " " && $0 != "_" && $0 != "-" }.lowercased()
        if key == "any" { return NamedSet(content: "\\x{0}-\\x{10ffff}") }
        if let short = Self.categories.first(where: { $0.lowercased() == key })
            ?? Self.categoryNames[key]
        {
            // What is newer is unassigned no more.
            if exact, short == "Cn" || short == "C" { return nil }
            return category(short)
        }
        switch key {
        case "word": return word(quirk: true)
        case "alphabetic": return bracket("alpha")
        case "uppercase": return bracket("upper")
        case "lowercase": return bracket("lower")
        default: break
        }
        if let set = bracket(key) { return set }
        if let flag = Self.properties[key] {
            return NamedSet(
                content: "\\p{\(key)}" + newer { row in flag.map(row.flags.contains) ?? false })
        }
        guard !key.isEmpty, key.allSatisfy({ $0.isASCII && $0.isLetter }) else { return nil }
        // A script; PCRE2 refuses what it does not know. Alone it would mean Script_Extensions there.
        return NamedSet(content: "\\p{sc:\(key)}" + newer { $0.script == key })
    }
}
