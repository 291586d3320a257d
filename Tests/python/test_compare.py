"""`loraq compare`: the same lines on two plugins, and where their answers part."""

import json
import subprocess
import sys

import harness
import pytest

SCRIPT = f"""#!{sys.executable}
import os, sys
sys.path.insert(0, {str(harness.ROOT / "clients" / "python" / "src")!r})
from loraq.worker import TaskError, Worker

worker = Worker(version="1", numerics=os.environ["LORAQ_PLUGIN"])
is_other = os.environ["LORAQ_PLUGIN"] == "other"


@worker.kind("infer", resource_class="sequence")
def infer(task):
    body = task.request["body"]
    assert body["temperature"] == 0 and body["logprobs"] >= 1 and "n" not in body, body
    what = body["prompt"]
    if what == "refused" or (what == "only one" and is_other):
        raise TaskError("BAD_LINE", "no")
    tokens = ["a", "b", "z" if is_other and what in ("parts", "tie") else "c"]
    second = -0.76 if what == "tie" else -3.0
    tops = [{{}}, {{}}, {{"c": -0.75, "z": second}} if tokens[2] == "c" else {{"z": -0.75, "c": second}}]
    scores = [-0.5, -0.25 - (0.4 if is_other and what == "scores" else 0), -0.75]
    logprobs = {{"tokens": tokens, "token_logprobs": scores, "top_logprobs": tops}}
    return task.response({{"choices": [{{"text": "".join(tokens), "logprobs": logprobs, "finish_reason": "stop"}}]}})


@worker.kind("prepare", resource_class="job")
def prepare(task):
    os.makedirs(task.workdir + "/model", exist_ok=True)
    digest = "sha256:" + "ab" * 32
    task.artifacts = [{{"type": "model", "name": "m", "digest": digest, "path": "model", "bytes": 1, "meta": {{}}}}]
    return {{}}


worker.run()
"""
WHATS = ["equal", "parts", "tie", "scores", "refused", "only one"]


def lines(whats):
    for what in whats:
        body = {"model": "m", "prompt": what, "temperature": 1.5, "n": 2}
        yield {"custom_id": what, "method": "POST", "url": "/v1/completions", "body": body}


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    names = [{"name": "infer", "class": "sequence"}, {"name": "prepare", "class": "job"}]
    kinds = {"kinds": names, "instances": 1}
    harness.plugin_folder(folder, "native", SCRIPT, kinds)
    harness.plugin_folder(folder, "other", SCRIPT, kinds | {"on_request": True})
    with harness.running(folder) as broker:
        client = broker.client()
        assert client.wait(client.submit("prepare", {"name": "m", "path": str(harness.ROOT)}))["state"] == "succeeded"
        yield broker


def compare(broker, *arguments):
    command = [str(harness.BIN / "loraq"), "--home", str(broker.home), "compare", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def submitted(client, whats):
    job = client.batch(lines(whats), worker="native")
    client.cancel(job)  # only what was submitted counts
    return job


def test_each_way_in_which_answers_differ_is_told(broker):
    client = broker.client()
    job = submitted(client, WHATS)
    done = compare(broker, job, "--worker", "other", "--json")
    assert done.returncode == 5, done.stderr
    report = json.loads(done.stdout)
    assert report["lines"] == 6 and not report["agrees"]
    wanted = {"equal": 1, "parts": 1, "tie": 1, "scores": 1, "refused": 1, "errors": 1}
    assert report["verdicts"] == wanted
    found = {finding["custom_id"]: finding for finding in report["findings"]}
    assert found.keys() == {"parts", "tie", "scores", "only one"}
    assert found["parts"]["tokens"] == 2 and found["parts"]["sides"] == ["c", "z"]
    assert found["parts"]["margins"] == pytest.approx([2.25, 2.25])
    assert found["scores"]["max_logprob_difference"] == pytest.approx(0.4)
    assert found["only one"]["sides"] == ["answered", "BAD_LINE"]
    assert len({client.job(one)["job"] for one in report["jobs"]}) == 2


def test_a_table_for_people_and_agreement(broker):
    client = broker.client()
    done = compare(broker, submitted(client, WHATS), "--worker", "other", "-q")
    assert done.returncode == 5
    assert "only one" in done.stdout and "BAD_LINE" in done.stdout and "6 lines: 1 equal" in done.stdout
    agreed = compare(broker, submitted(client, ["equal", "tie"]), "--worker", "other", "-q")
    assert agreed.returncode == 0, agreed.stdout
    first = compare(broker, submitted(client, WHATS), "--worker", "other", "--lines", "1", "-q")
    assert first.returncode == 0 and "1 line: 1 equal" in first.stdout


def test_what_cannot_be_compared_is_refused(broker):
    client = broker.client()
    job = submitted(client, ["equal"])
    assert compare(broker, job, "--worker", "native").returncode == 2
    nobody = compare(broker, job, "--worker", "nobody")
    assert nobody.returncode == 1 and "nobody" in nobody.stderr
