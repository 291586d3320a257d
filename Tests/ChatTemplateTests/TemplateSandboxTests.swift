import JSONModel
import Testing

@testable import ChatTemplate

/// What a hostile or broken template can do: nothing but fail, soon, with a reason.
@Suite struct TemplateSandboxTests {
    private let now = LocalTime(year: 2026, month: 3, day: 5)

    private func fault(
        _ source: String, limits: TemplateLimits = TemplateLimits()
    ) -> TemplateError? {
        do {
            let template = try ConversationTemplate(source: source, limits: limits)
            _ = try template.render(context: ["items": [1, 2, 3]], now: now)
            return nil
        } catch {
            return error
        }
    }

    @Test func errorsNameLineAndColumn() {
        let syntax = fault("one\ntwo {{ 'é' ~ }}")
        #expect(syntax?.type == "TemplateSyntaxError")
        #expect(syntax?.line == 2)
        #expect(syntax?.column == 14)
        let runtime = fault("one\n  {{ missing.name }}")
        #expect(runtime?.type == "UndefinedError")
        #expect(runtime?.line == 2)
    }

    @Test func endlessWorkMeetsTheStepLimit() {
        var limits = TemplateLimits()
        limits.steps = 20_000
        let source = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"
        #expect(fault(source, limits: limits)?.type == "LimitError")
    }

    @Test func memoryIsBounded() {
        var limits = TemplateLimits()
        limits.bytes = 1 << 20
        for source in [
            "{{ 'x' * 99999999999 }}", "{{ [1] * 99999999 }}",
            "{% set ns = namespace(t='xxxxxxxx') %}{% for i in range(99) %}"
                + "{% set ns.t = ns.t + ns.t %}{% endfor %}",
            "{{ 'x'.ljust(99999999) }}", "{{ '%99999999d' % 1 }}", "{{ 2 ** 99999999 }}",
            "{{ 'aaaa'.replace('a', 'b' * 500000) }}",
        ] {
            #expect(fault(source, limits: limits)?.type == "LimitError", "\(source)")
        }
        #expect(fault("{{ range(999999999) }}")?.type == "OverflowError")
    }

    @Test func recursionEnds() {
        #expect(
            fault("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}")?.type == "RecursionError")
        let open = String(repeating: "(", count: 5000)
        let close = String(repeating: ")", count: 5000)
        #expect(fault("{{ \(open)1\(close) }}")?.type == "LimitError")
        let blocks = String(repeating: "{% if 1 %}", count: 5000)
        #expect(fault(blocks)?.type == "LimitError")
        #expect(
            fault("{{ " + String(repeating: "not ", count: 5000) + "1 }}")?.type == "LimitError")
        #expect(fault("{{ " + String(repeating: "-", count: 5000) + "1 }}")?.type == "LimitError")
        #expect(fault("{% set " + String(repeating: "(", count: 9999) + "a")?.type == "LimitError")
    }

    @Test func chainsOfOperatorsAreBounded() {
        func chain(_ part: String, _ count: Int, _ end: String) -> String {
            "one\n {{ " + String(repeating: part, count: count) + end + " }}"
        }
        for source in [
            chain("1 + ", 100_000, "1"), chain("1 * ", 100_000, "1"), chain("2 ** ", 100_000, "1"),
            chain("1 or ", 100_000, "1"), chain("1 and ", 100_000, "1"),
            chain("a.", 100_000, "b"),
            "one\n {{ a" + String(repeating: "[0]", count: 100_000) + "}}",
            "one\n {{ a" + String(repeating: "|trim", count: 100_000) + "}}",
            "one\n {{ a" + String(repeating: "()", count: 100_000) + "}}",
            "one\n {{ a" + String(repeating: " if b", count: 100_000) + "}}",
            // Each level of parentheses holds a chain of its own.
            "one\n {{ " + String(repeating: "(", count: 100)
                + String(repeating: "1" + String(repeating: "+1", count: 300) + ")", count: 1)
                + String(repeating: String(repeating: "+1", count: 300) + ")", count: 99) + "}}",
        ] {
            let error = fault(source)
            #expect(error?.type == "LimitError", "\(source.prefix(40))")
            #expect(error?.line == 2 && error?.column != nil, "\(source.prefix(40))")
        }
        // As many as a person writes are fine.
        #expect(fault(chain("'a' + ", 300, "'b'")) == nil)
        #expect(fault(chain("'a' ~ ", 20_000, "'b'")) == nil)
    }

    @Test func nestingByStepsIsBounded() {
        let grow = "{% set ns = namespace(x=[1]) %}{% for i in range(100000) %}{% set ns.x = "
        for step in [
            "[ns.x]", "(ns.x,)", "{'a': ns.x}", "[ns.x]|list", "[ns.x]|reverse", "[ns.x].index",
            "joiner(ns.x)", "cycler(ns.x)", "{'a': ns.x}.items()", "dict(a=ns.x)",
        ] {
            let error = fault("\n" + grow + step + " %}{% endfor %}")
            #expect(error?.type == "LimitError", "\(step)")
            #expect(error?.line == 2, "\(step)")
        }
        // Namespaces, loops and macros that hold each other are taken apart without recursion.
        for body in [
            "{% set ns.x = namespace(y=ns.x) %}",
            "{% for j in [ns.x] %}{% set ns.x = loop %}{% endfor %}",
            "{% set ns.x = dict(y=[ns]) %}",
            "{% set old = ns.x %}{% macro m() %}{{ old }}{% endmacro %}{% set ns.x = m %}",
        ] {
            let source =
                "{% set ns = namespace(x=1) %}{% for i in range(50000) %}\(body){% endfor %}"
            #expect(fault(source) == nil, "\(body)")
        }
        #expect(fault("{% set ns = namespace() %}{% set ns.x = [ns, ns] %}{{ ns }}") != nil)
    }

    @Test func valuesThatDoubleAreCountedWhenTheyAreUsed() {
        var limits = TemplateLimits()
        limits.steps = 50_000
        let double =
            "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
            + "{% endfor %}"
        for use in [
            "{{ ns.x }}", "{{ ns.x == ns.x }}", "{{ ns.x|tojson }}", "{{ ns.x|string }}",
            "{{ 'a' ~ ns.x }}", "{{ ns.x|pprint }}", "{{ [ns.x]|sort }}", "{{ ns.x in [ns.x] }}",
            "{{ '%s' % (ns.x,) }}", "{{ '{}'.format(ns.x) }}", "{{ ns.x|join }}",
            "{{ [ns.x].index(ns.x) }}", "{{ ns.x|upper }}", "{{ ns.x < ns.x }}", "{{ ns }}",
            "{{ {}[ns.x] }}", "{{ [ns.x]|select('equalto', ns.x)|list }}",
            "{{ raise_exception(ns.x) }}", "{{ [ns.x]|map('tojson')|list }}",
            "{% for x in [1, 2] %}{{ loop.changed(ns.x) }}{% endfor %}", "{{ ns.x is upper }}",
        ] {
            #expect(fault(double + use, limits: limits)?.type == "LimitError", "\(use)")
        }
        let tuples =
            "{% set ns = namespace(x=(1,)) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}"
            + "{% endfor %}"
        for use in ["{{ {ns.x: 1} }}", "{{ {}.get(ns.x) }}", "{{ [ns.x]|unique|list }}"] {
            #expect(fault(tuples + use, limits: limits)?.type == "LimitError", "\(use)")
        }
    }

    @Test func noOperationMakesMoreThanTheLimit() {
        var limits = TemplateLimits()
        limits.bytes = 1 << 20
        let big = "{% set x = 'a <' * 200000 %}"
        for use in [
            "{{ x ~ x ~ x }}", "{{ [x, x, x]|join }}", "{{ x.join([x, x]) }}",
            "{{ '%s%s%s' % (x, x, x) }}", "{{ '{0}{0}{0}'.format(x) }}", "{{ x|list }}",
            "{% for c in x %}{% endfor %}", "{{ x|e }}", "{{ x|urlencode }}",
            "{{ x|replace('a', 'bbbbbbbb') }}", "{{ x.replace('', 'b') }}",
            "{{ x|wordwrap(1, true, x) }}", "{{ x|indent(100000) }}", "{{ [x] * 50000 }}",
            "{{ [1, 2]|batch(1000000, x)|list }}", "{{ [1]|slice(1000000)|list }}",
            "{{ range(100000)|list|tojson(indent=1000) }}", "{{ x[::-1] ~ x }}",
        ] {
            #expect(fault(big + use, limits: limits)?.type == "LimitError", "\(use)")
        }
    }

    /// Found by comparing random templates with Jinja.
    @Test func oddTemplatesFailAsInJinja() {
        for (source, type) in [
            ("{% break %}", "SyntaxError"),
            ("{% for x in [] %}{% else %}{% continue %}{% endfor %}", "SyntaxError"),
            (
                "{% for x in [1] %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
                "SyntaxError"
            ),
            ("{{ x|int }}", "UndefinedError"), ("{{ 5|wordwrap(4) }}", "AttributeError"),
            ("{{ 5|truncate }}", "TypeError"), ("{{ [1]|indent }}", "AttributeError"),
            ("{{ 5|reverse }}", "FilterArgumentError"), ("{{ 5|xmlattr }}", "AttributeError"),
            ("{{ x|abs }}", "TypeError"), ("{{ [].__class__|int }}", "SecurityError"),
        ] {
            #expect(fault(source)?.type == type, "\(source)")
        }
        for (source, text) in [
            ("{{ [3, 'a', 1]|sort(attribute='b') }}", "[3, 'a', 1]"), ("{{ 1000 % -1e3 }}", "-0.0"),
            ("{{ true|round }}", "1"), ("{{ 'a' % [1] }}{{ 'a' % x }}", "aa"),
            ("{% macro m() %}{% endmacro %}{{ m }}", "<Macro 'm'>"), ("{{ x.__class__ }}", ""),
            ("{% for i in [1, 2] %}{{ loop }}{% endfor %}", "<LoopContext 1/2><LoopContext 2/2>"),
            (
                "{% for i in [1, 2] %}a{% set y %}b{% break %}{% endset %}{% else %}c{% endfor %}{{ y }}",
                "ac"
            ),
        ] {
            #expect(rendered(source) == text, "\(source)")
        }
    }

    private func rendered(_ source: String) -> String? {
        try? ConversationTemplate(source: source).render(context: [:], now: now).text
    }

    @Test func readingTextCountsAsWork() {
        let source =
            "{% set x = 'a' * 1000000 %}{% for i in range(99999) %}{% if x.endswith('b') %}{% endif %}"
            + "{% endfor %}"
        #expect(fault(source)?.type == "LimitError")
    }

    @Test func dataCannotBeChanged() {
        for source in ["{{ items.append(4) }}", "{{ items.sort() }}", "{{ {}.update(a=1) }}"] {
            #expect(fault(source)?.type == "SecurityError", "\(source)")
        }
        #expect(fault("{{ ''.__class__.__mro__ }}")?.type == "SecurityError")
    }

    @Test func halfOpenTagsAreSyntaxErrors() {
        for source in [
            "{{", "{%", "{#", "{% raw %}", "{% if", "{{ '", "{{ [ }}", "{{ } }}", "{% for x in %}",
            "{% macro %}", "{% set %}", "{% endfor %}", "{% set (a", "{{ a.}}", "{{ a|}}",
            "{{ a is }}",
        ] {
            #expect(fault(source)?.type == "TemplateSyntaxError", "\(source)")
        }
    }
}
