import JSONModel
import LoraqClient
import Testing

@testable import loraq

@Suite struct JobTextTests {
    private static let now = 1_764_000_100_000

    private static let batch: JSONValue = [
        "job": "0193a1b2-0000-7000-8000-00000000abcd", "kind": "infer", "state": "succeeded",
        "label": "nightly", "tenant": "default", "priority": 5,
        "created_at_ms": 1_764_000_000_000, "started_at_ms": 1_764_000_010_000,
        "finished_at_ms": 1_764_000_074_000,
        "counts": [
            "total": 2000, "ready": 0, "leased": 0, "backoff": 0, "done": 1997, "failed": 2,
            "cancelled": 0, "dead": 1,
        ],
        "after": [["job": "0193a1b2-0000-7000-8000-000000000001", "on": "success"]],
        "usage": ["prompt_tokens": 123456, "completion_tokens": 45678],
    ]

    private static let fineTune: JSONValue = [
        "job": "0193a1b2-0000-7000-8000-00000000beef", "kind": "finetune", "state": "failed",
        "tenant": "default", "priority": 0, "created_at_ms": 1_764_000_000_000,
        "started_at_ms": 1_764_000_010_000, "finished_at_ms": 1_764_000_012_000,
        "counts": ["total": 1, "done": 0, "failed": 1],
        "error": [
            "code": "NO_LABELS", "class": "user", "message": "no row has anything to learn",
            "hint": "look at `loraq data check`",
        ],
        "after": [], "usage": [:],
    ]

    private static let waiting: JSONValue = [
        "job": "0193a1b2-0000-7000-8000-00000000cafe", "kind": "finetune", "state": "queued",
        "tenant": "default", "priority": 0, "created_at_ms": 1_764_000_099_000,
        "counts": ["total": 1, "ready": 1],
        "reason": ["code": "NO_WORKER", "message": "no ready worker takes finetune"],
        "after": [], "usage": [:],
    ]

    @Test func theTableOfJobs() throws {
        let jobs = try [Self.batch, Self.fineTune, Self.waiting].map(JobSnapshot.init)
        #expect(
            JobText.table(jobs, nowMs: Self.now, style: .plain, width: 100) == """
                JOB           KIND      STATE                       DONE     AGE    TOOK  LABEL
                00000000abcd  infer     succeeded  2,000/2,000, 3 failed  1m ago  1m 04s  nightly
                00000000beef  finetune  failed             1/1, 1 failed  1m ago    2.0s  -
                00000000cafe  finetune  queued                       0/1  1s ago       -  -

                """)
        // A pipe gets whole ids.
        let piped = JobText.table(jobs, nowMs: Self.now, style: .plain, width: nil)
        #expect(piped.contains("\n0193a1b2-0000-7000-8000-00000000abcd  infer"))
    }

    @Test func theDetailOfABatch() throws {
        #expect(
            JobText.detail(try JobSnapshot(Self.batch), nowMs: Self.now, style: .plain) == """
                job       0193a1b2-0000-7000-8000-00000000abcd
                kind      infer
                label     nightly
                priority  5
                state     succeeded  (submitted 1m ago, ran 1m 04s)
                tasks     2,000 in all, 1,997 done, 2 failed, 1 dead, 31.2 lines/s
                usage     prompt_tokens 123,456, completion_tokens 45,678
                after     0193a1b2-0000-7000-8000-000000000001

                """)
    }

    @Test func theDetailOfAFailure() throws {
        #expect(
            JobText.detail(try JobSnapshot(Self.fineTune), nowMs: Self.now, style: .plain) == """
                job    0193a1b2-0000-7000-8000-00000000beef
                kind   finetune
                state  failed  (submitted 1m ago, ran 2.0s)
                tasks  1 in all, 1 failed
                error  NO_LABELS: no row has anything to learn
                hint   look at `loraq data check`

                """)
    }

    @Test func theDetailShowsTheResult() throws {
        let job = try JobSnapshot([
            "job": "j", "kind": "adapter", "state": "succeeded", "counts": ["total": 1, "done": 1],
            "reason": ["code": "SUCCEEDED", "message": "it has ended: succeeded"],
            "result": [
                "rank": 8, "target_modules": ["q_proj", "v_proj"], "warnings": [],
                "targets": ["q_proj": 5], "shown": [1, 2],
            ],
        ])
        #expect(
            JobText.detail(job, nowMs: Self.now, style: .plain) == """
                job    j
                kind   adapter
                state  succeeded
                tasks  1 in all, 1 done
                result
                  rank            8
                  target_modules  q_proj, v_proj
                  warnings        0
                  targets         q_proj 5

                """)
        #expect(Registration.about(job.result) == ": rank 8, on q_proj, v_proj")
    }

    @Test func theDetailOfAWaitingJobSaysWhy() throws {
        let text = JobText.detail(try JobSnapshot(Self.waiting), nowMs: Self.now, style: .plain)
        #expect(text.contains("waits for  no ready worker takes finetune\n"))
    }

    @Test func aJobThatEndedBeforeItsFileWasReadIsNotBeingRead() throws {
        func text(_ state: String) throws -> String {
            let job = try JobSnapshot(["job": "x", "kind": "infer", "state": .string(state)])
            return JobText.detail(job, nowMs: Self.now, style: .plain)
        }
        #expect(try text("splitting").contains("the file is being read"))
        #expect(
            try text("cancelled").contains("the job ended before its file was read to the end"))
    }

    @Test func exitStatusOfJobs() throws {
        let batch = try JobSnapshot(Self.batch)
        let failed = try JobSnapshot(Self.fineTune)
        #expect(JobWaiter.status(of: [batch]) == .someLinesFailed)
        #expect(JobWaiter.status(of: [batch, failed]) == .failure)
        let whole = try JobSnapshot([
            "job": "x", "state": "succeeded", "counts": ["total": 2, "done": 2],
        ])
        #expect(JobWaiter.status(of: [whole]) == .success)
        #expect(JobWaiter.status(of: [whole, batch]) == .someLinesFailed)
    }

    @Test func anInterruptedWaitSaysHowToComeBack() {
        let error = JobWaiter.interrupted(["j"])
        #expect(error.status == .interrupted)
        #expect(error.message == "interrupted; j goes on")
        #expect(error.hint == "come back with `loraq wait j`, or end it with `loraq cancel j`")
    }

    @Test func anInterruptedWaitForManyJobsNeverAdvisesToCancelAll() {
        let jobs = ["a", "b", "c", "d"]
        let labelled = JobWaiter.interrupted(jobs, ["sweep"])
        #expect(labelled.message == "interrupted; 4 jobs go on")
        #expect(
            labelled.hint
                == "come back with `loraq wait sweep`, or end them with `loraq cancel sweep`")
        for selectors in [["all"], [], jobs, ["all", "sweep"]] {
            let hint = JobWaiter.interrupted(jobs, selectors).hint ?? ""
            #expect(hint.contains("`loraq jobs`") && !hint.contains("all"))
        }
    }
}

@Suite struct LineTextTests {
    @Test func errorLinesAreReadWhereverTheErrorStands() {
        let lines = [
            """
            {"custom_id":"q-1","error":{"code":"BAD_LINE","line":17,"message":"body.temperature must be a number"}}
            """,
            """
            {"custom_id":"q-2","response":{"status_code":400,"body":{"error":{"code":"CONTEXT_LENGTH","message":"too long","hint":"cut it"}}},"error":null}
            """,
            "no JSON\u{1B}[2J",
        ]
        #expect(
            lines.map { ErrorLine.text(of: Array($0.utf8), style: .plain) } == [
                "line 17, custom_id q-1  BAD_LINE: body.temperature must be a number",
                "custom_id q-2  CONTEXT_LENGTH: too long (cut it)", "no JSON [2J",
            ])
    }

    @Test func dependencies() throws {
        #expect(try DependencyText("last").on == "success")
        let finish = try DependencyText("my:label:finish")
        #expect(finish.selector == "my:label")
        #expect(finish.on == "finish")
        let gate = try DependencyText("last:eval_loss<=0.5")
        #expect(gate.selector == "last")
        #expect(gate.condition == ["metric": "eval_loss", "op": "<=", "value": 0.5])
        #expect(throws: ToolError.self) { try DependencyText("last:sometime") }
        #expect(throws: ToolError.self) { try DependencyText("last:loss<low") }
    }

    @Test func adaptersByBareName() throws {
        let names = ["tiny:a", "tiny:b", "big:b", "tiny:long-name"]
        #expect(try AdapterName.choose("a", among: names) == "tiny:a")
        #expect(try AdapterName.choose("a@3", among: names) == "tiny:a@3")
        let both = #expect(throws: ToolError.self) { try AdapterName.choose("b", among: names) }
        #expect(both?.message == "several models have an adapter `b`: big:b, tiny:b")
        let none = #expect(throws: ToolError.self) {
            try AdapterName.choose("long-nmae", among: names)
        }
        #expect(none?.message == "there is no adapter `long-nmae`; did you mean `long-name`?")
    }

    @Test(arguments: ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/."])
    func fileNamesFromTheBrokerStayInTheFolder(name: String) {
        #expect(throws: ToolError.self) {
            try ArtifactDownload.file(["name": .string(name), "bytes": 1])
        }
    }

    @Test func ordinaryFileNamesAreTaken() throws {
        let file = try ArtifactDownload.file(["name": "sub/adapter_model.safetensors", "bytes": 7])
        #expect(file.name == "sub/adapter_model.safetensors")
        #expect(file.bytes == 7)
    }

    @Test func eventLines() {
        let line = EventLine.text(
            [
                "event": 7, "type": "task.failed", "job": "0193a1b2-0000-7000-8000-00000000abcd",
                "task": "0193a1b2-0000-7000-8000-00000000abcd/17", "worker": "lora-1",
                "error": ["code": "BAD_LINE", "message": "no"],
            ], style: .plain)
        #expect(line == "task.failed           00000000abcd/17  lora-1  code BAD_LINE, message no")
    }

    @Test func chat() {
        var history = ChatHistory(system: "be brief")
        #expect(history.command("  ") == .nothing)
        #expect(history.command("hello") == .say)
        history.add("assistant", "hi")
        #expect(
            history.json == [
                ["role": "system", "content": "be brief"], ["role": "user", "content": "hello"],
                ["role": "assistant", "content": "hi"],
            ])
        #expect(history.command("/reset") == .note("forgotten"))
        #expect(history.command("/system") == .note("no system message"))
        #expect(history.json == [])
        #expect(history.command("/exit") == .exit)
        guard case .note = history.command("/what") else {
            Issue.record("an unknown command is said, not sent")
            return
        }
    }
}

@Suite struct ChunkPrinterTests {
    private func event(_ index: Int, _ text: String, attempt: Int = 1, choice: Int? = nil)
        -> BrokerEvent
    {
        var json: JSONObject = [
            "type": "chunk", "token_index": .integer(Int64(index)),
            "attempt": .integer(Int64(attempt)), "text": .string(text),
        ]
        json["choice"] = choice.map { .integer(Int64($0)) }
        return BrokerEvent(topic: "job/x", json: .object(json))
    }

    private func printed(_ events: [BrokerEvent], answer: String) -> String {
        var output = ""
        let printer = ChunkPrinter { output += $0 }
        for event in events { printer.take(event) }
        printer.finish(with: answer)
        return output
    }

    @Test func piecesThenTheRest() {
        #expect(printed([event(0, "Hel"), event(1, "lo")], answer: "Hello, you") == "Hello, you\n")
        #expect(printed([], answer: "Hello") == "Hello\n")
    }

    @Test func whatComesTwiceIsPrintedOnce() {
        #expect(printed([event(0, "a"), event(0, "a"), event(2, "b")], answer: "ab") == "ab\n")
    }

    @Test func aMissedPieceMakesTheAnswerBePrintedWhole() {
        #expect(printed([event(3, "lo")], answer: "Hello") == "lo\nHello\n")
    }

    @Test func anotherAttemptBeginsAnew() {
        #expect(
            printed([event(0, "Hel"), event(0, "Hello", attempt: 2)], answer: "Hello")
                == "Hel\nHello\n")
    }

    @Test func otherChoicesAndEscapesStayOut() {
        #expect(
            printed([event(0, "a\u{1B}[31m"), event(1, "x", choice: 1)], answer: "a[31m")
                == "a[31m\n")
    }
}

@Suite struct DoctorTests {
    @Test func processors() {
        func verdict(_ flags: String, vendor: String = "AuthenticAMD") -> String {
            let finding = Examination.processor(
                cpuInfo: "vendor_id\t: \(vendor)\n\(flags)\n", cores: 2)
            return "\(finding.verdict.rawValue) \(finding.message)"
        }
        let all = "flags\t\t: fpu avx2 fma avx512f avx512bw avx512vl avx512dq avx512_bf16"
        #expect(verdict(all) == "ok 2 cores, AVX-512 with BF16")
        #expect(verdict(all, vendor: "GenuineIntel") == "ok 2 cores, AVX-512")
        #expect(verdict("flags\t\t: fpu avx2 fma avx512f") == "ok 2 cores, AVX2")
        #expect(verdict("flags\t\t: fpu avx2 fma") == "ok 2 cores, AVX2")
        #expect(verdict("Features\t: fp asimd") == "ok 2 cores, NEON")
        #expect(verdict("flags\t\t: fpu").hasPrefix("warn"))
    }

    @Test func workersThatAreNotReadyAreNamed() {
        let findings = Examination.workers([
            "workers": [
                ["instance": "lora-1", "state": "ready"],
                ["instance": "lora-2", "state": "backoff", "last_exit": "signal 9"],
            ],
            "plugins": [
                ["name": "lora", "path": "/w/lora", "instances": 2],
                ["name": "bad", "path": "/w/bad", "error": ["message": "exec is missing"]],
            ],
        ])
        #expect(
            findings == [
                .fail("plugin bad", "exec is missing", "mend /w/bad/worker.json"),
                .warn("lora-2", "is backoff; last exit: signal 9", "loraq logs --worker lora-2"),
                .ok("workers", "ready: lora-1"),
            ])
        #expect(Examination.workers(["workers": [], "plugins": []]).map(\.verdict) == [.fail])
    }

    @Test func findingsAreAligned() {
        let text = Finding.text(
            [.ok("disk", "much"), .warn("models", "none yet", "add one")], style: .plain)
        #expect(text == "ok    disk    much\nwarn  models  none yet\n              add one\n")
    }
}

@Suite struct DataReportTests {
    @Test func theReport() {
        let text = DataReport.text(
            [
                "rows": 10, "usable": 9, "forms": ["messages": 8, "text": 1], "turns": 20,
                "trained_answers": 9, "untrained_answers": 1, "tokens": 400, "labels": 100,
                "lengths": [
                    "min": 12, "median": 40, "p95": 80, "max": 90,
                    "histogram": [["upto": 16, "rows": 2], ["upto": 128, "rows": 7]],
                ], "truncated": 0,
                "duplicates": 1,
                "refused": [["line": 4, "code": "BAD_LINE", "message": "role `bot` is unknown"]],
                "shown": [
                    [
                        "line": 1,
                        "spans": [
                            ["text": "Q: 2+2?\nA: ", "trained": false],
                            ["text": "4", "trained": true],
                        ],
                    ]
                ],
            ], file: "t.jsonl", style: .plain)
        #expect(
            text == """
                file        t.jsonl
                rows        10
                trained     9
                refused     1
                forms       8 messages, 1 text
                turns       20 messages: 9 answers trained, 1 not
                tokens      400, 100 of them trained (25%)
                lengths     shortest 12, half below 40, 95% below 80, longest 90
                duplicates  1

                TOKENS  ROWS  SHARE
                  ≤ 16     2  ###########
                 ≤ 128     7  ########################################

                refused rows
                  line 4  BAD_LINE: role `bot` is unknown

                line 1
                Q: 2+2?
                A: ⟦4⟧

                """)
    }

    @Test func tokensOneByOne() {
        let text = DataReport.text(
            [
                "rows": 1, "usable": 1, "tokens": 3, "labels": 1, "duplicates": 0, "refused": [],
                "shown": [
                    [
                        "line": 7,
                        "spans": [
                            [
                                "text": "Q ", "tokens": 1, "trained": false,
                                "pieces": [["id": 5, "text": "Q "]],
                            ],
                            [
                                "text": "a\n", "tokens": 2, "trained": true,
                                "pieces": [["id": 60000, "text": "a"], ["id": 1, "text": "\n"]],
                            ],
                        ],
                    ]
                ],
            ], file: "t", byToken: true, style: .plain)
        #expect(
            text.hasSuffix(
                """
                line 7
                     0         5  "Q "
                     1 +   60000  "a"
                     2 +       1  "\\n"

                """))
    }

    @Test func refusedRowsBeyondTheListAreCounted() {
        let text = DataReport.text(
            [
                "rows": 200, "usable": 50, "tokens": 4, "labels": 1, "truncated": 0,
                "duplicates": 0,
                "lengths": ["min": 1, "median": 2, "p95": 3, "max": 4], "refused": [],
            ], file: "t", style: .plain)
        #expect(text.contains("trained     50\nrefused     150\n"))
        #expect(text.contains("half below 2,"))
    }
}
