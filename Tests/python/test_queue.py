"""Submitting, answering, graphs and cancelling, with a real broker and a real plugin in Python."""

import json

import pytest
from harness import DEADLINE_S, until
from loraq import LoraqError, new_job_id


def words(count: int) -> list[dict]:
    return [{"custom_id": f"c{n}", "text": "word " * n + "end"} for n in range(count)]


def jsonl(lines: list) -> bytes:
    return b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)


def test_a_batch_is_answered_line_by_line(client):
    job = client.batch(words(100), kind="wordcount", label="hundred")
    status = client.wait(job, DEADLINE_S)
    assert status["state"] == "succeeded"
    assert status["counts"]["done"] == status["counts"]["total"] == 100
    assert status["usage"]["words"] == sum(range(1, 101))
    lines = list(client.results(job))
    assert {line["custom_id"]: line["words"] for line in lines} == {f"c{n}": n + 1 for n in range(100)}
    assert client.job("hundred")["job"] == client.job("last")["job"] == client.job(job[-8:])["job"] == job
    assert [entry["job"] for entry in client.jobs(kind="wordcount", state="succeeded")] == [job]


def test_results_in_input_order_and_by_pages(client):
    job = client.batch(words(250), kind="wordcount")
    client.wait(job, DEADLINE_S)
    assert [line["words"] for line in client.results(job, order="input")] == list(range(1, 251))
    seen, cursor, complete = [], None, False
    while not complete:
        lines, cursor, complete = client.fetch(job, after=cursor, limit=7)
        assert len(lines) <= 7
        seen += [line["custom_id"] for line in lines]
    assert sorted(seen) == sorted(f"c{n}" for n in range(250))


def test_a_job_of_one_task_gives_its_result_object(client):
    job = client.submit("countdown", {"seconds": 0.3})
    status = client.wait(job, DEADLINE_S)
    assert status["state"] == "succeeded", status
    assert status["result"]["seconds"] == 0.3
    assert status["progress"]["unit"] == "seconds"
    assert list(client.results(job)) == [status["result"]]


def test_bad_lines_become_errors_with_their_number_and_the_others_run(client):
    lines = [
        {"custom_id": "a", "text": "one"},
        b"{not json",
        {"text": "no id"},
        {"custom_id": "a", "text": "repeated"},
        b"",
        {"custom_id": "b", "text": 7},
        b"\xff\xfe",
        {"custom_id": "c", "text": "one two"},
        b"[]",
    ]
    job = client.batch(jsonl(lines), kind="wordcount")
    status = client.wait(job, DEADLINE_S)
    assert status["state"] == "succeeded"
    assert status["counts"]["failed"] > 0
    assert status["lines"]["complete"]
    assert {line["custom_id"]: line["words"] for line in client.results(job)} == {"a": 1, "c": 2}
    errors = {line["error"]["line"]: line["error"] for line in client.results(job, stream="errors")}
    assert sorted(errors) == [2, 3, 4, 6, 7, 9]
    assert errors[6]["param"] == "text"
    assert all(error["code"] == "BAD_LINE" for error in errors.values())


def test_a_batch_without_one_good_line_has_failed(client):
    job = client.batch(b"{}\n[]\n", kind="wordcount")
    assert client.wait(job, DEADLINE_S)["state"] == "failed"


def test_the_same_submission_again_is_the_same_job_and_another_a_conflict(client):
    job = new_job_id()
    assert client.batch(words(3), kind="wordcount", id=job) == job
    client.wait(job, DEADLINE_S)
    assert client.batch(words(3), kind="wordcount", id=job) == job
    assert client.job(job)["counts"]["total"] == 3
    with pytest.raises(LoraqError) as conflict:
        client.batch(words(4), kind="wordcount", id=job)
    assert conflict.value.code == "CONFLICT"


def test_submissions_in_one_message_are_answered_one_by_one(client):
    good, bad = new_job_id(), new_job_id()
    jobs = [
        {"id": good, "kind": "countdown", "spec": {"seconds": 0}},
        {"id": bad, "kind": "nothing-knows-this", "spec": {}},
        {"id": "not-an-id", "kind": "countdown", "spec": {}},
    ]
    results = client.request("SUBMIT_BATCH", {"jobs": jobs}).header["results"]
    assert results[0]["state"] in ("queued", "running", "succeeded")
    assert results[1]["error"]["code"] == "UNKNOWN_KIND"
    assert results[2]["error"]["class"] == "user"
    assert client.wait(good, DEADLINE_S)["state"] == "succeeded"


@pytest.mark.parametrize(
    ("kind", "spec", "code"),
    [
        ("finetune", {"model": "tiny", "name": "../x"}, "INVALID_SPEC"),
        ("finetune", {"model": "tiny", "name": "a", "recipe": {"learning-rate": 1}}, "INVALID_SPEC"),
        ("prepare", {"name": "tiny", "path": "relative"}, "INVALID_SPEC"),
        ("nothing-knows-this", {}, "UNKNOWN_KIND"),
    ],
)
def test_a_wrong_submission_is_refused_by_name(client, kind, spec, code):
    with pytest.raises(LoraqError) as refusal:
        client.submit(kind, spec, {"train": b"{}\n"} if kind == "finetune" else None)
    assert refusal.value.code in (code, "UNKNOWN_KIND")
    assert refusal.value.error_class == "user"


def test_an_unknown_blob_is_refused(client):
    with pytest.raises(LoraqError) as refusal:
        client.submit("wordcount", {}, {"lines": "sha256:" + "0" * 64})
    assert refusal.value.code == "UNKNOWN_BLOB"


def test_an_upload_goes_on_where_it_stopped_and_lies_by_digest(client):
    data = b"x" * (5 << 20)
    digest = client.upload(data)
    assert client.request("PUT", {"digest": digest, "bytes_total": len(data)}).header["complete"]
    wrong = "sha256:" + "1" * 64
    with pytest.raises(LoraqError) as refusal:
        client.request("PUT", {"digest": wrong, "bytes_total": 3, "offset": 0}, [("piece", b"abc")])
    assert refusal.value.code == "DIGEST_MISMATCH"


def test_after_waits_and_passes_on_failure(client):
    first = client.submit("countdown", {"seconds": 0.5})
    second = client.batch(words(2), kind="wordcount", after=[first])
    assert client.job(second)["state"] in ("waiting", "splitting")
    broken = client.submit("countdown", {"seconds": "many"})
    cut_off = client.submit("countdown", {"seconds": 0}, after=[broken])
    anyway = client.submit("countdown", {"seconds": 0}, after=[{"job": broken, "on": "finish"}])
    assert client.wait(second, DEADLINE_S)["state"] == "succeeded"
    assert client.wait(broken, DEADLINE_S)["error"]["code"] == "INVALID_SPEC"
    status = client.wait(cut_off, DEADLINE_S)
    assert status["state"] == "dependency_failed"
    assert broken in json.dumps(status["reason"])
    assert client.wait(anyway, DEADLINE_S)["state"] == "succeeded"
    first_status, second_status = client.job(first), client.job(second)
    assert second_status["started_at_ms"] >= first_status["finished_at_ms"]


def test_a_condition_that_does_not_hold_skips_the_job(client):
    first = client.submit("countdown", {"seconds": 0.2})
    condition = {"job": first, "on": "success", "if": {"metric": "seconds", "op": ">", "value": 1}}
    held = {"job": first, "on": "success", "if": {"metric": "seconds", "op": "<=", "value": 0.2}}
    skipped = client.submit("countdown", {"seconds": 0}, after=[condition])
    runs = client.submit("countdown", {"seconds": 0}, after=[held])
    assert client.wait(skipped, DEADLINE_S)["state"] == "skipped"
    assert client.wait(runs, DEADLINE_S)["state"] == "succeeded"


def test_explain_names_the_dependency(client):
    first = client.submit("countdown", {"seconds": 60})
    second = client.submit("countdown", {"seconds": 0}, after=[first])
    reply = client.explain(second)
    assert reply["state"] == "waiting"
    assert first in json.dumps(reply["reason"])
    client.cancel(first)
    client.wait(second, DEADLINE_S)


def test_a_running_task_is_cancelled_and_the_worker_goes_on(client):
    job = client.submit("countdown", {"seconds": 3600})
    until(lambda: client.job(job)["state"] == "running", "the task runs")
    assert client.cancel(job, reason="enough")[0]["job"] == job
    assert client.wait(job, DEADLINE_S)["state"] == "cancelled"
    assert client.wait(client.submit("countdown", {"seconds": 0}), DEADLINE_S)["state"] == "succeeded"


def test_a_great_file_that_is_being_split_holds_nobody_up(client):
    """KINDS 23."""
    great = client.batch(b"".join(b'{"custom_id": "%d", "text": ""}\n' % n for n in range(600_000)), kind="wordcount")
    small = client.batch(words(3), kind="wordcount", tenant="other")
    client.wait(small, DEADLINE_S)
    client.cancel(great)
    order = [event["job"] for event in client.events() if event["type"] in ("job.queued", "job.running", "job.cancelled")]
    assert order.index(small) < order.index(great)


def test_hold_and_release(client):
    blocker = client.submit("countdown", {"seconds": 3600})
    job = client.submit("countdown", {"seconds": 0}, after=[{"job": blocker, "on": "finish"}])
    assert client.hold(job)[0]["state"] == "held"
    client.cancel(blocker)
    client.wait(blocker, DEADLINE_S)
    assert client.job(job)["state"] == "held"
    client.release(job)
    assert client.wait(job, DEADLINE_S)["state"] == "succeeded"


def test_retry_runs_only_what_failed(client):
    job = client.batch(jsonl([{"custom_id": "a", "text": "x"}, {"custom_id": "b", "text": 1}]), kind="wordcount")
    client.wait(job, DEADLINE_S)
    assert client.retry(job)["tasks"] == 1
    status = client.wait(job, DEADLINE_S)
    assert status["counts"]["done"] == 1
    assert [line["custom_id"] for line in client.results(job)] == ["a"]


def test_events_tell_the_life_of_a_job(client):
    job = client.submit("countdown", {"seconds": 0.1})
    client.wait(job, DEADLINE_S)
    types = [event["type"] for event in client.events(job=job)]
    assert "task.started" in types
    assert types[-1] == "job.succeeded"
    numbers = [event["event"] for event in client.events()]
    assert numbers == sorted(numbers)


def test_workers_and_plugins_are_listed(client):
    reply = until(
        lambda: (r := client.workers()) and r["workers"] and r["workers"][0]["state"] == "ready" and r, "the worker is ready"
    )
    assert [plugin["name"] for plugin in reply["plugins"]] == ["wordcount"]
    assert reply["workers"][0]["plugin"] == "wordcount"
    assert client.ping()["epoch"] >= 1


def test_a_second_broker_for_the_same_home_does_not_start(broker):
    import subprocess

    from harness import BIN

    command = [str(BIN / "loraqd"), "--home", str(broker.home), "--no-workers"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 3
    assert str(broker.home) in done.stderr or str(broker.process.pid) in done.stderr
    assert broker.client().ping()
