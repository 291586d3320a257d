import JSONModel
import Testing

@testable import WireProtocol

@Suite struct ChoiceTests {
    private static func id(_ number: Int) throws -> JobID {
        try #require(JobID(text: "0198c2a0-0000-7000-8000-0000000000\(10 + number)"))
    }

    /// Candidates `a`, `b`, … each with the jobs 2i (fine-tune) and 2i + 1 (evaluation).
    private func spec(
        _ count: Int, metric: String = "exact_match", goal: ChooseSpec.Goal = .max,
        stages: ChooseSpec.Stages? = nil, leftOut: Int? = nil
    ) throws -> ChooseSpec {
        let names = ["a", "b", "c", "d"]
        return ChooseSpec(
            name: WireName(known: "best"), metric: metric, goal: goal,
            candidates: try (0..<count).map { index in
                if index == leftOut { return ChooseSpec.Candidate(title: "x", leftOut: "cannot") }
                return ChooseSpec.Candidate(
                    adapter: ArtifactReference(text: "m:\(names[index])"),
                    finetune: try Self.id(2 * index), evaluation: try Self.id(2 * index + 1),
                    title: names[index])
            }, stages: stages)
    }

    private typealias Outcome = TaskEnvelope.Outcome

    private func outcomes(_ list: [(Int, JobState, [String: Double], String?)]) throws -> [JobID:
        Outcome]
    {
        var result: [JobID: Outcome] = [:]
        for (number, state, metrics, message) in list {
            let id = try Self.id(number)
            result[id] = Outcome(
                job: id, state: state, metrics: metrics,
                error: message.map { ErrorObject(.internalError, .user, $0) })
        }
        return result
    }

    private func evaluated(_ figures: [[String: Double]]) throws -> [JobID: Outcome] {
        try outcomes(
            figures.enumerated().flatMap { index, metrics in
                [
                    (2 * index, .succeeded, ["seconds": 1], nil),
                    (2 * index + 1, .succeeded, metrics, nil),
                ]
            })
    }

    @Test func theBestIsTheOneThatTheGoalSays() throws {
        let figures: [[String: Double]] = [["loss": 0.5], ["loss": 0.3], ["loss": 0.4]]
        let least = Choice(
            try spec(3, metric: "loss", goal: .min), outcomes: try evaluated(figures))
        #expect(least.best == 1 && least.isComplete)
        #expect(least.conclusion == "b has the lowest eval_loss of 3, 0.3")
        let most = Choice(try spec(3, metric: "loss"), outcomes: try evaluated(figures))
        #expect(most.best == 0)
        #expect(least.rows[0].training == ["seconds": 1] && least.rows[0].value == 0.5)
    }

    @Test func ofEqualsTheOneOfLessLossThenTheFirst() throws {
        let equal = try evaluated([
            ["exact_match": 1, "loss": 0.2], ["exact_match": 1, "loss": 0.1],
            ["exact_match": 1, "loss": 0.1], ["exact_match": 0.5, "loss": 0],
        ])
        #expect(Choice(try spec(4), outcomes: equal).best == 1)
        let bare = try evaluated([["exact_match": 1], ["exact_match": 1]])
        #expect(Choice(try spec(2), outcomes: bare).best == 0)
        let broken = try evaluated([["exact_match": .nan], ["exact_match": 0]])
        #expect(Choice(try spec(2), outcomes: broken).best == 1, "what is no number is no best")
    }

    @Test func whatFailedIsLeftOutWithItsOwnReason() throws {
        let choice = Choice(
            try spec(3, leftOut: 2),
            outcomes: try outcomes([
                (0, .failed, [:], "it diverged"), (1, .dependencyFailed, [:], "job 0 failed"),
                (2, .succeeded, [:], nil), (3, .succeeded, ["exact_match": 0.2], nil),
            ]))
        #expect(choice.rows.map(\.state) == [.failed, .evaluated, .leftOut])
        #expect(choice.rows.map(\.reason) == ["it diverged", nil, "cannot"])
        #expect(choice.best == 1)
        let none = Choice(
            try spec(1),
            outcomes: try outcomes([(0, .succeeded, [:], nil), (1, .succeeded, ["loss": 1], nil)]))
        #expect(none.best == nil && none.rows[0].reason?.contains("exact_match") == true)
    }

    @Test func anUnfinishedTableSaysHowFarEachIs() throws {
        let choice = Choice(
            try spec(4),
            outcomes: try outcomes([
                (0, .running, [:], nil), (1, .waiting, [:], nil), (2, .succeeded, [:], nil),
                (3, .running, [:], nil), (4, .queued, [:], nil), (5, .waiting, [:], nil),
            ]))
        #expect(choice.rows.map(\.state) == [.training, .evaluating, .waiting, .waiting])
        #expect(choice.best == nil && choice.conclusion == nil && !choice.isComplete)
    }

    // MARK: Stages

    private let stages = ChooseSpec.Stages(target: 0.95, minimumGain: 0.01)

    @Test func theNextStageBeginsWhileTheTargetIsOpenAndTheLastOneGained() {
        let most = StageRule(metric: "exact_match", goal: .max, target: 0.9, minimumGain: 0.01)
        #expect(
            most.conditions(isFirst: true) == [.init(metric: "exact_match", op: .less, value: 0.9)])
        #expect(
            most.conditions(isFirst: false).last
                == .init(metric: "exact_match_gain", op: .greaterOrEqual, value: 0.01))
        let least = StageRule(metric: "loss", goal: .min, target: 0.1, minimumGain: 0)
        #expect(
            least.conditions(isFirst: true) == [.init(metric: "loss", op: .greater, value: 0.1)])
    }

    @Test func aStageThatMeetsTheTargetEndsThem() throws {
        var ends = try evaluated([
            ["exact_match": 0.5], ["exact_match": 0.97, "exact_match_gain": 0.47],
        ])
        ends.merge(
            try outcomes([
                (4, .skipped, [:], "exact_match < 0.95 does not hold"),
                (5, .skipped, [:], "job 4 …"),
            ])
        ) { $1 }
        let choice = Choice(try spec(3, stages: stages), outcomes: ends)
        #expect(choice.rows.map(\.state) == [.evaluated, .evaluated, .skipped] && choice.best == 1)
        #expect(
            choice.conclusion
                == "b meets the target: exact_match 0.97, at least 0.95; the stages after it were not needed"
        )
    }

    @Test func aStageThatGainsTooLittleEndsThem() throws {
        var ends = try evaluated([
            ["exact_match": 0.5], ["exact_match": 0.502, "exact_match_gain": 0.002],
        ])
        ends.merge(
            try outcomes([
                (4, .skipped, [:], "exact_match_gain >= 0.01 does not hold"),
                (5, .skipped, [:], ""),
            ])
        ) { $1 }
        let choice = Choice(try spec(3, stages: stages), outcomes: ends)
        #expect(choice.best == 1)
        #expect(
            choice.conclusion?.hasPrefix("b no longer pays: it gained 0.002 in exact_match") == true
        )
    }

    @Test func stagesThatAllRanOrFailedSaySo() throws {
        let all = try evaluated([
            ["exact_match": 0.5], ["exact_match": 0.6, "exact_match_gain": 0.1],
        ])
        #expect(
            Choice(try spec(2, stages: stages), outcomes: all).conclusion
                == "every stage ran; the best, b, has exact_match 0.6, below the target 0.95")
        var ends = try evaluated([["exact_match": 0.5]])
        ends.merge(
            try outcomes([
                (2, .failed, [:], "out of memory"), (3, .dependencyFailed, [:], ""),
                (4, .dependencyFailed, [:], ""), (5, .dependencyFailed, [:], ""),
            ])
        ) { $1 }
        let choice = Choice(try spec(3, stages: stages), outcomes: ends)
        #expect(choice.best == 0 && choice.conclusion == "b failed: out of memory")
        let running = Choice(
            try spec(2, stages: stages), outcomes: try evaluated([["exact_match": 0.5]]))
        #expect(running.conclusion == nil && running.best == 0)
    }
}
