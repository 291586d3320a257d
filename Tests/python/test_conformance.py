"""`loraq conformance`: what speaks the protocol passes, what breaks a rule is told which."""

import concurrent.futures
import json
import subprocess
import sys

import harness
import pytest

BROKEN = harness.ROOT / "Tests" / "python" / "broken"
LONG = ["--long-kind", "sleep"]


def conformance(what, options, command, timeout=20):
    """The report of `loraq conformance`, by rule, and its exit status."""
    arguments = [str(harness.BIN / "loraq"), "conformance", what, "--json", "--timeout", str(timeout), *options, "--", *command]
    done = subprocess.run([str(word) for word in arguments], capture_output=True, text=True, timeout=240)
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
    rules, status = conformance("client", ["--answer", '{"words": 3}'], command, 20)
    passes(rules, status, not_tried=("upload",))


WORKER_FAULTS = {
    "another-name": "hello",
    "hello-once": "hello-again",
    "same-request-id": "hello-again",
    "takes-any-welcome": "stale-welcome",
    "credit-of-thousands": "credit",
    "no-beats": "beat",
    "no-memory": "beat",
    "dies-of-junk": "robust",
    "takes-foreign-tasks": "foreign-session",
    "another-lease": "result",
    "no-custom-id": "body",
    "line-break": "body",
    "gaps-in-seq": "sequence",
    "holds-nothing": "keeps",
    "forgets-what-it-holds": "session-lost",
    "never-again": "resends",
    "never-forgets": "forgets",
    "credit-once": "credit-grows",
    "retries-unknown-kinds": "unknown-kind",
    "cannot-be-stopped": "cancel",
    "leaves-at-once": "drain",
    "no-bye": "drain",
    "deaf-to-sigterm": "terminate",
    "cannot-be-refused": "final-error",
}


@pytest.fixture(scope="module")
def broken_workers():
    """The reports of all broken workers, which mostly wait: several at once."""

    def run(fault):
        options = ["--kind", "count", *(LONG if fault == "cannot-be-stopped" else [])]
        return conformance("worker", options, [sys.executable, BROKEN / "worker.py", fault], 5)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return dict(zip(WORKER_FAULTS, pool.map(run, WORKER_FAULTS), strict=True))


@pytest.mark.parametrize("fault", WORKER_FAULTS)
def test_a_broken_worker_is_found(broken_workers, fault):
    rules, status = broken_workers[fault]
    assert status == 1
    rule = rules[WORKER_FAULTS[fault]]
    assert rule["verdict"] == "fail" and rule["why"], rules


def test_the_worker_that_is_broken_on_purpose_is_right_otherwise():
    command = [sys.executable, BROKEN / "worker.py", "nothing"]
    passes(*conformance("worker", ["--kind", "count", *LONG], command))


CLIENT_FAULTS = {
    "wrong-type": "message",
    "same-request-id": "request-id",
    "uuid-4": "job-id",
    "never-again": "resends",
    "new-request-id": "resends",
    "one-page": "pages",
    "own-cursors": "pages",
    "prints-nothing": "output",
    "never-content": "success",
    "always-content": "refusal",
}


@pytest.fixture(scope="module")
def broken_clients():
    def run(fault):
        return conformance("client", [], [sys.executable, BROKEN / "client.py", fault], 8)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return dict(zip(CLIENT_FAULTS, pool.map(run, CLIENT_FAULTS), strict=True))


@pytest.mark.parametrize("fault", CLIENT_FAULTS)
def test_a_broken_client_is_found(broken_clients, fault):
    rules, status = broken_clients[fault]
    assert status == 1
    rule = rules[CLIENT_FAULTS[fault]]
    assert rule["verdict"] == "fail" and rule["why"], rules


def test_a_program_that_is_none_is_told(tmp_path):
    rules, status = conformance("worker", [], ["false"], 2)
    assert status == 1 and rules["hello"]["verdict"] == "fail" and rules["result"]["verdict"] == "skip"
    rules, status = conformance("client", [], ["true"], 2)
    assert status == 1 and rules["submits"]["verdict"] == "fail"
    program = [str(harness.BIN / "loraq"), "conformance", "worker"]
    assert subprocess.run(program, capture_output=True).returncode == 2
