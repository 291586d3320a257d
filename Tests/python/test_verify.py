"""`VERIFY`: the broker proves a batch from its stored files, and finds what is not as it should be."""

import json
import pathlib

import pytest
from harness import DEADLINE_S, until
from loraq import LoraqError


def lines(count: int, tag: str = "c") -> list[dict]:
    return [{"custom_id": f"{tag}{n}", "text": "a b"} for n in range(count)]


def run_folder(broker, job: str) -> pathlib.Path:
    return broker.home / "runs" / job


def edit(path: pathlib.Path, change) -> None:
    path.write_bytes(change(path.read_bytes()))


def test_a_batch_is_proven_though_the_broker_is_killed_in_its_middle(broker):
    client = broker.client(timeout=60)
    text = b"".join(json.dumps(line).encode() + b"\n" for line in lines(45_000))
    # Blank lines are none, a repeated id and a line that is no JSON are answered by an error each.
    text = b"\n" + text + b"{no json\n\n" + json.dumps(lines(1)[0]).encode()
    job = client.batch(text, kind="wordcount")
    for share in (0.2, 0.5):
        until(lambda share=share: client.job(job)["counts"]["done"] >= 45_000 * share, "the batch runs", 2 * DEADLINE_S)
        broker.restart()
    running = client.verify(job)
    assert running["problem_count"] == 0, running["problems"]
    assert not running["verified"] or not running["answers"]["open"]
    client.wait(job, 4 * DEADLINE_S)
    proof = client.verify(job)
    assert proof["verified"], proof
    assert proof["lines"] == 45_002
    assert proof["answers"] == {"done": 45_000, "failed": 2, "dead": 0, "cancelled": 0, "open": 0}
    ids = [line["custom_id"] for line in client.results(job)]
    assert len(ids) == 45_000
    assert set(ids) == {f"c{n}" for n in range(45_000)}


def test_a_cancelled_batch_is_proven_too(client):
    job = client.batch(lines(3_000), kind="wordcount")
    until(lambda: client.job(job)["counts"]["done"] >= 10, "the batch runs")
    client.cancel(job)
    proof = client.verify(job)
    assert proof["problem_count"] == 0, proof
    assert proof["answers"]["cancelled"] + proof["answers"]["done"] == proof["lines"]


def test_what_was_changed_on_disk_is_found(broker):
    client = broker.client()

    def done() -> str:
        job = client.batch(lines(50), kind="wordcount")
        client.wait(job, DEADLINE_S)
        assert client.verify(job)["verified"]
        return job

    def codes(job: str) -> set[str]:
        proof = client.verify(job)
        assert not proof["verified"]
        return {problem["code"] for problem in proof["problems"]}

    swapped = done()
    segment = run_folder(broker, swapped) / "results-000.jsonl"
    edit(segment, lambda text: text.replace(b'"c7"', b'"cX"'))
    assert codes(swapped) == {"WRONG_LINE"}
    cut = done()
    edit(run_folder(broker, cut) / "results-000.jsonl", lambda text: text[:-40])
    assert codes(cut) == {"UNREADABLE"}
    gone = done()
    (run_folder(broker, gone) / "results-000.jsonl").unlink()
    assert codes(gone) == {"UNREADABLE"}
    longer = client.batch(lines(50, "z"), kind="wordcount")
    client.wait(longer, DEADLINE_S)
    blob = next(path for path in (broker.home / "blobs").rglob("*") if path.is_file() and b'"z7"' in path.read_bytes())
    blob.chmod(0o600)
    edit(blob, lambda text: text + b'{"custom_id": "late", "text": ""}\n')
    assert codes(longer) == {"INPUT"}


def test_a_job_of_one_task_is_proven(client):
    job = client.submit("countdown", {"seconds": 0})
    client.wait(job, DEADLINE_S)
    assert client.verify(job)["answers"]["done"] == 1


def test_an_unknown_job_is_refused(client):
    with pytest.raises(LoraqError) as refused:
        client.verify("ffffffff")
    assert refused.value.code == "UNKNOWN_JOB"
