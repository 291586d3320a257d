"""Jobs that name a plugin, plugins that want to be named, and what was submitted."""

import shutil

import harness
import pytest
from loraq import LoraqError

KINDS = [{"name": "echo", "class": "slot"}]
RARE = {"name": "rare", "class": "slot"}


@pytest.fixture
def two_plugins(tmp_path):
    """Two plugins for one kind, `fake` and, only on request, `other`; the tests are their workers."""
    harness.plugin_folder(tmp_path, "fake", "#!/bin/sh\n", {"kinds": KINDS, "instances": 0})
    harness.plugin_folder(tmp_path, "other", "#!/bin/sh\n", {"kinds": [*KINDS, RARE], "instances": 0, "on_request": True})
    with harness.running(tmp_path) as broker:
        yield broker


def worker_of(broker, plugin):
    worker = harness.FakeWorker(broker, kinds=["echo"], plugin=plugin)
    worker.hello()
    return worker


def test_a_job_goes_to_the_plugin_that_it_names_and_others_never_to_one_on_request(two_plugins):
    client = two_plugins.client()
    other = worker_of(two_plugins, "other")
    other.credit(8)
    unasked = client.submit("echo", {})
    assert other.sees_no_task()
    assert client.explain(unasked)["reason"]["code"] == "NO_INSTANCES"
    named = client.submit("echo", {}, worker="other")
    assert other.tasks(1)[0]["job"] == named
    fake = worker_of(two_plugins, "fake")
    fake.credit(8)
    assert fake.tasks(1)[0]["job"] == unasked
    waiting = client.submit("echo", {}, worker="fake")
    assert fake.tasks(1)[0]["job"] == waiting
    for worker in (fake, other):
        worker.close()


def test_a_restart_keeps_what_a_job_named(two_plugins):
    client = two_plugins.client()
    job = client.submit("echo", {}, worker="other")
    two_plugins.restart()
    fake, other = worker_of(two_plugins, "fake"), worker_of(two_plugins, "other")
    fake.credit(8)
    assert fake.sees_no_task()
    other.credit(8)
    assert other.tasks(1)[0]["job"] == job
    for worker in (fake, other):
        worker.close()


def test_a_plugin_that_is_gone_is_named_by_explain(two_plugins, tmp_path):
    client = two_plugins.client()
    named, unasked = client.submit("rare", {}, worker="other"), client.submit("echo", {})
    two_plugins.kill()
    shutil.rmtree(tmp_path / "other")
    (tmp_path / "fake" / "worker.json").rename(tmp_path / "kept")
    harness.plugin_folder(tmp_path, "third", "#!/bin/sh\n", {"kinds": KINDS, "instances": 0, "on_request": True})
    two_plugins.start()
    reason = client.explain(named)["reason"]
    assert reason["code"] == "NO_WORKER_CONFIGURED" and "of plugin other" in reason["message"], reason
    reason = client.explain(unasked)["reason"]
    assert reason["code"] == "NO_WORKER_CONFIGURED" and "third does those that name it" in reason["message"], reason


@pytest.mark.parametrize(("worker", "kind", "code", "said"), [
    ("nobody", "echo", "INVALID_SPEC", "nobody"),
    ("other", "countdown", "UNKNOWN_KIND", "countdown"),
    (None, "rare", "UNKNOWN_KIND", "unasked"),
    ("../other", "echo", "BAD_HEADER", "worker"),
])  # fmt: skip
def test_a_plugin_that_cannot_run_it_is_refused(two_plugins, worker, kind, code, said):
    client = two_plugins.client()
    job = {"id": "01931f0a-5c00-7abc-8def-0123456789ab", "kind": kind, "spec": {}} | ({"worker": worker} if worker else {})
    with pytest.raises(LoraqError) as refused:
        # Past the client's own checks: the broker's are meant.
        harness.Client.request(client, "SUBMIT", {"job": job})
    assert refused.value.code == code and said in refused.value.message


def test_input_tells_what_was_submitted(bare_broker):
    client = bare_broker.client()
    lines = b"".join(b'{"custom_id": "%d"}\n' % number for number in range(1000))
    job = client.batch(lines, kind="echo", spec={"a": 1}, label="told")
    told = client.request("INPUT", {"job": "told"}).header
    assert (told["job"], told["kind"], told["spec"]) == (job, "echo", {"a": 1})
    assert [(entry["name"], entry["bytes"]) for entry in told["inputs"]] == [("lines", len(lines))]
    assert "worker" not in told
    piece = client.request("INPUT", {"job": job, "name": "lines", "offset": 10, "bytes": 100}).body("piece")
    assert piece == lines[10:110]
    assert client.request("INPUT", {"job": job, "name": "lines", "offset": len(lines)}).body("piece") == b""
    for header, code in (({"job": job, "name": "train"}, "BAD_HEADER"), ({"job": "no-such-job"}, "UNKNOWN_JOB")):
        with pytest.raises(LoraqError) as refused:
            client.request("INPUT", header)
        assert refused.value.code == code
