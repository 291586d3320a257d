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
            "{% macro %}", "{% set %}", "{% endfor %}", "{{ a.}}", "{{ a|}}", "{{ a is }}",
        ] {
            #expect(fault(source)?.type == "TemplateSyntaxError", "\(source)")
        }
    }
}
