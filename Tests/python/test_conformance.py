"""`loraq conformance`: what speaks the protocol passes, what breaks a rule is told which."""

import concurrent.futures
import json
import re
import subprocess
import sys

import harness
import pytest

BROKEN = harness.ROOT / "Tests" / "python" / "broken"
LONG = ["--long-kind", "sleep"]


def conformance(what, options, command, timeout=60):
    """The report of `loraq conformance`, by rule, and its exit status. What keeps the rules never waits for `timeout`."""
    arguments = [str(harness.BIN / "loraq"), "conformance", what, "--json", "--timeout", str(timeout), *options, "--", *command]
    done = subprocess.run([str(word) for word in arguments], capture_output=True, text=True, timeout=600)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    return {rule["rule"]: rule for rule in report["rules"]}, done.returncode


def passes(rules, status, *, not_tried=()):
    wrong = [rule for rule in rules.values() if rule["verdict"] != "pass" and rule["rule"] not in not_tried]
    assert not wrong, wrong
    assert status == 0


def test_the_native_worker(tmp_path):
    command = [harness.BIN / "lora-worker", "serve"]
    line = {"method": "POST", "url": "/v1/completions", "body": {"model": "m", "prompt": "x"}}
    options = ["--kind", "infer", "--class", "sequence", "--line", json.dumps(line)]
    passes(*conformance("worker", options, command), not_tried=("cancel", "preempt"))


def test_the_python_worker():
    command = [sys.executable, harness.EXAMPLES / "wordcount" / "worker.py"]
    options = ["--kind", "wordcount", "--long-kind", "countdown", "--long-spec", '{"seconds": 60}']
    passes(*conformance("worker", options, command))


def test_the_python_client():
    command = [sys.executable, harness.EXAMPLES / "client.py", "--timeout", "5"]
    rules, status = conformance("client", ["--answer", '{"words": 3}'], command)
    passes(rules, status, not_tried=("upload",))


#: What each fault breaks: these rules and no other.
WORKER_FAULTS = {
    "another-name": {"hello"},
    "hello-once": {"hello-again"},
    "same-request-id": {"hello-again"},
    "takes-any-welcome": {"stale-welcome"},
    "credit-of-thousands": {"credit"},
    "no-beats": {"beat"},
    "no-memory": {"beat"},
    "dies-of-junk": {"robust"},
    "takes-foreign-tasks": {"foreign-session"},
    "another-lease": {"result"},
    "no-custom-id": {"body"},
    "line-break": {"body"},
    "gaps-in-seq": {"sequence"},
    "holds-nothing": {"keeps"},
    "forgets-what-it-holds": {"session-lost"},
    "never-again": {"resends"},
    "never-forgets": {"forgets", "drain"},
    "credit-once": {"credit-grows"},
    "retries-unknown-kinds": {"unknown-kind"},
    "cannot-be-stopped": {"cancel", "preempt"},
    "leaves-at-once": {"drain"},
    "no-bye": {"drain", "terminate"},
    "deaf-to-sigterm": {"terminate"},
    "cannot-be-refused": {"final-error"},
}


def breaks(report, wanted):
    rules, status = report
    assert status == 1
    assert {name for name, rule in rules.items() if rule["verdict"] == "fail"} == wanted, rules
    assert all(rule["why"] for rule in rules.values() if rule["verdict"] != "pass")


@pytest.fixture(scope="module")
def broken_workers():
    """The reports of all broken workers, which mostly wait: several at once."""

    def run(fault):
        options = ["--kind", "count", *(LONG if fault == "cannot-be-stopped" else [])]
        return conformance("worker", options, [sys.executable, BROKEN / "worker.py", fault], 12)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return dict(zip(WORKER_FAULTS, pool.map(run, WORKER_FAULTS), strict=True))


@pytest.mark.parametrize("fault", WORKER_FAULTS)
def test_a_broken_worker_is_found(broken_workers, fault):
    breaks(broken_workers[fault], WORKER_FAULTS[fault])


def test_the_worker_that_is_broken_on_purpose_is_right_otherwise():
    command = [sys.executable, BROKEN / "worker.py", "nothing"]
    passes(*conformance("worker", ["--kind", "count", *LONG], command))


CLIENT_FAULTS = {
    "wrong-type": {"message"},
    # It takes one answer for that to another request, and goes wrong.
    "same-request-id": {"request-id", "success", "pages", "output"},
    "uuid-4": {"job-id"},
    "never-again": {"resends"},
    "new-request-id": {"resends"},
    "one-page": {"pages", "output"},
    "own-cursors": {"pages", "output"},
    "prints-nothing": {"output"},
    "never-content": {"success"},
    "always-content": {"refusal", "silence"},
}


@pytest.fixture(scope="module")
def broken_clients():
    def run(fault):
        return conformance("client", [], [sys.executable, BROKEN / "client.py", fault])

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return dict(zip(CLIENT_FAULTS, pool.map(run, CLIENT_FAULTS), strict=True))


@pytest.mark.parametrize("fault", CLIENT_FAULTS)
def test_a_broken_client_is_found(broken_clients, fault):
    breaks(broken_clients[fault], CLIENT_FAULTS[fault])


def test_a_program_that_is_none_is_told(tmp_path):
    rules, status = conformance("worker", [], ["false"])
    assert status == 1 and rules["hello"]["verdict"] == "fail" and rules["result"]["verdict"] == "skip"
    assert "status 1" in rules["hello"]["why"]
    rules, status = conformance("client", [], ["true"])
    assert status == 1 and rules["submits"]["verdict"] == "fail"
    rules, status = conformance("worker", [], ["/no/such/program"])
    assert status == 1 and "/no/such/program" in rules["hello"]["why"]


def text_of(*words):
    done = subprocess.run([str(harness.BIN / "loraq"), "conformance", *words], capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout, done.stderr


def test_the_report_for_people():
    """As a stranger would type it: a line for each rule, what was seen below one that is broken, a sum at the end."""
    status, text, _ = text_of("worker", "--", sys.executable, str(harness.ROOT / "examples" / "worker.py"))
    assert status == 0
    assert re.search(r"^pass  hello-again +says HELLO again", text, re.MULTILINE)
    assert "skip  cancel, preempt: " in text
    assert text.endswith("19 rules kept, 0 broken, 2 not tried\n")
    broken = [sys.executable, str(BROKEN / "worker.py"), "no-custom-id"]
    status, text, _ = text_of("worker", "--kind", "count", "--", *broken)
    assert status == 1
    assert re.search(r"^fail  body +a result's body", text, re.MULTILINE)
    assert "seen: custom_id is missing" in text and "18 rules kept, 1 broken" in text


@pytest.mark.parametrize(("words", "status", "said"), [
    (["worker"], 2, "give the program after `--`"),
    (["worker", "--line", "[1]", "--", "true"], 2, "--line must be a JSON object"),
    (["worker", "--kind", "../x", "--", "true"], 2, "--kind must be"),
    (["worker", "--timeout", "0", "--", "true"], 2, "--timeout must be above 0"),
    (["worker", "--kind", "nothing", "--", sys.executable, str(BROKEN / "worker.py"), "none"], 1, "it has count, sleep"),
])  # fmt: skip
def test_a_wrong_use_is_told(words, status, said):
    ended = text_of(*words)
    assert ended[0] == status and said in ended[2], ended
