import JSONModel
import Testing

@testable import loraq

@Suite struct ComparisonReportTests {
    private func line(
        _ name: String, _ tokens: [(String, Double)], top: [[String: Double]] = [],
        finish: String = "stop"
    ) -> JSONValue {
        let tops = tokens.indices.map { index -> JSONValue in
            guard index < top.count else { return .object([:]) }
            return .object(JSONObject(top[index].map { ($0.key, JSONValue.number($0.value)) }))
        }
        let scores: JSONValue = [
            "tokens": .array(tokens.map { .string($0.0) }),
            "token_logprobs": .array(tokens.map { .number($0.1) }), "top_logprobs": .array(tops),
        ]
        let choice: JSONValue = ["logprobs": scores, "finish_reason": .string(finish)]
        return [
            "custom_id": .string(name), "error": .null,
            "response": ["body": ["choices": [choice]]],
        ]
    }

    private func verdict(_ a: JSONValue, _ b: JSONValue) -> ComparisonReport.Finding {
        ComparisonReport.compare(a, b, tolerance: 0.05).0
    }

    @Test func tokensAndScores() {
        let base = line("a", [("x", -0.1), ("y", -1.0)])
        #expect(verdict(base, base).verdict == .equal)
        #expect(verdict(base, line("a", [("x", -0.1), ("y", -1.04)])).verdict == .equal)
        let apart = verdict(base, line("a", [("x", -0.1), ("y", -1.2)]))
        #expect(apart.verdict == .scores && abs(apart.scoreDifference - 0.2) < 1e-9)
        let parted = verdict(base, line("a", [("x", -0.1), ("z", -0.5)]))
        #expect(parted.verdict == .parts && parted.tokens == 1 && parted.sides == ["y", "z"])
        #expect(verdict(base, line("a", [("x", -0.1)])).sides == ["y", "(end)"])
        #expect(
            verdict(base, line("a", [("x", -0.1), ("y", -1.0)], finish: "length")).verdict == .parts
        )
    }

    @Test func aTieIsNoParting() {
        let a = line("a", [("y", -0.69)], top: [["y": -0.69, "z": -0.70]])
        let b = line("a", [("z", -0.69)], top: [["z": -0.69, "y": -0.71]])
        #expect(verdict(a, b).verdict == .tie)
        let sure = line("a", [("z", -0.1)], top: [["z": -0.1, "y": -2.5]])
        #expect(verdict(a, sure).verdict == .parts)
    }

    @Test func errorsAndSums() {
        let answer = line("a", [("x", -0.1)])
        func refusal(_ code: String) -> JSONValue {
            ["custom_id": "b", "response": .null, "error": ["code": .string(code)]]
        }
        var report = ComparisonReport(
            job: "j", names: ["native", "peft"], jobs: [], tolerance: 0.05)
        #expect(!report.agrees, "nothing was compared")
        report.add(answer, answer)
        report.add(refusal("BAD_LINE"), refusal("BAD_LINE"))
        #expect(report.agrees)
        report.add(answer, refusal("BAD_MODEL"))
        #expect(!report.agrees)
        #expect(report.findings.map(\.sides) == [["answered", "BAD_MODEL"]])
        let text = report.text(.plain)
        #expect(
            text.contains("3 lines: 1 equal, 1 errors, 1 refused") && text.contains("BAD_MODEL"))
        #expect(report.json["verdicts"]?["errors"] == .integer(1))
    }

    @Test func linesAreMadeComparable() throws {
        let given =
            #"{"custom_id":"a","url":"/v1/completions","body":{"prompt":"p","n":3,"temperature":2}}"#
        let made = try JSONValue.parse(ComparedLines.comparable(Array(given.utf8)))
        #expect(made["body"]?["temperature"]?.double == 0 && made["body"]?["n"] == nil)
        #expect(made["body"]?["logprobs"]?.integer == 5)
        let broken = Array("no json".utf8)
        #expect(ComparedLines.comparable(broken) == broken)
    }
}
