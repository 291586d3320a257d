"""SIGKILL at every numbered place of `loraqd` (Sources/LinuxSystem/Failpoint.swift): each time all that was acknowledged is there.

The places in workers: test_worker_failpoints.py. At random: chaos.py.
"""

import collections
import os
import pathlib
import re
import sqlite3
import sys

import harness
import pytest
from harness import DEADLINE_S, until
from loraq import LoraqError

SOURCE = harness.ROOT / "Sources/LinuxSystem/Failpoint.swift"
POINTS = {name: int(number) for name, number in re.findall(r"^    case (\w+) = (\d+)$", SOURCE.read_text(), re.MULTILINE)}
#: Reached while jobs run, by the visit at which the process dies: the first, or one in the middle.
WHILE_RUNNING = [
    ("workerSpawned", 1),
    ("blobPieceWritten", 2),
    ("blobSynced", 1),
    ("blobPlaced", 1),
    ("batchPartSplit", 1),
    ("linesWritten", 1),
    ("linesWritten", 5),
    ("linesSynced", 1),
    ("linesSettled", 1),
    ("transactionFilled", 1),
    ("transactionFilled", 9),
    ("transactionCommitted", 1),
    ("transactionCommitted", 9),
    ("firstOfCommitSent", 1),
    ("firstOfCommitSent", 9),
    ("tasksSent", 1),
    ("tasksSent", 5),
    ("resultsReceived", 1),
    ("resultsReceived", 5),
    ("artifactPlaced", 1),
]
ELSEWHERE = {"storeOpened", "stopBegun", "jobsPruned", "blobsForgotten"}

PLUGIN = f"""#!{sys.executable}
import hashlib, pathlib, sys
sys.path.insert(0, {str(harness.ROOT / "clients/python/src")!r})
from loraq.worker import Worker
worker = Worker(version="1")

@worker.kind("count", threads=2, prefetch=30)
def count(task):
    # One line is more than the store keeps for the files, so it is synced at once.
    return {{"words": len(task.request["text"].split()), "filler": "x" * (3 << 19 if task.custom_id == "b0" else 0)}}

@worker.kind("prepare")
def prepare(task):
    folder = pathlib.Path(task.workdir) / "made"
    folder.mkdir(exist_ok=True)
    (folder / "data.txt").write_text("base")
    digest = "sha256:" + hashlib.sha256(b"base").hexdigest()
    made = {{"type": "model", "name": task.spec["name"], "digest": digest, "path": str(folder), "bytes": 4, "meta": {{}}}}
    task.artifacts.append(made)
    return {{"model": {{"name": task.spec["name"], "digest": digest}}}}

worker.run()
"""


@pytest.fixture
def broker(tmp_path):
    # Nobody has room for `never`: what is of that kind waits until it is cancelled.
    kinds = [{"name": name, "class": "slot"} for name in ("count", "prepare")] + [{"name": "never", "class": "none"}]
    folder = harness.plugin_folder(tmp_path / "plugins", "maker", PLUGIN, {"kinds": kinds, "instances": 1})
    broker = harness.Broker([folder])
    yield broker
    broker.close()


def arm(broker: harness.Broker, name: str, visit: int = 1) -> pathlib.Path:
    """The file that is there once the place has been reached."""
    mark = broker.home / "reached"
    broker.environment["LORAQ_FAILPOINT"] = f"{POINTS[name]}:{visit}:{mark}"
    return mark


LINES = 120


def lines(prefix: str) -> bytes:
    return b"".join(b'{"custom_id": "%s%d", "text": "a b"}\n' % (prefix.encode(), number) for number in range(LINES))


def check_batch(client, job: str, prefix: str) -> None:
    status = client.wait(job, DEADLINE_S)
    assert status["state"] == "succeeded", status
    proof = client.verify(job)
    assert proof["verified"], proof
    assert proof["answers"]["done"] == LINES
    answers = collections.Counter(line["custom_id"] for line in client.results(job, stream="all"))
    assert answers == collections.Counter(f"{prefix}{number}" for number in range(LINES))


@pytest.mark.parametrize(("name", "visit"), WHILE_RUNNING)
def test_loraqd_is_killed_at_every_place_while_jobs_run(broker, name, visit):
    """KINDS 20, 24: a broker that dies anywhere loses nothing that it acknowledged, and does nothing twice."""
    mark = arm(broker, name, visit)
    with broker.kept_running():
        client = broker.client(timeout=DEADLINE_S)
        # Two pieces, so that an upload is interrupted in its middle.
        content = os.urandom(16) * ((4 << 20) // 16) + b"tail"
        digest = client.upload(content)
        model = client.submit("prepare", {"name": "tiny", "path": str(broker.home)})
        batches = [(client.batch(lines(prefix), kind="count"), prefix) for prefix in ("a", "b")]
        doomed = client.batch(lines("c"), kind="never", after=[{"job": model, "on": "success"}])
        client.cancel(doomed)
        assert client.wait(model, DEADLINE_S)["state"] == "succeeded"
        for job, prefix in batches:
            check_batch(client, job, prefix)
        assert client.wait(doomed, DEADLINE_S)["state"] == "cancelled"
        until(mark.exists, f"{name} is reached {visit} times")
        # What was acknowledged: the blob, and the artifact, once.
        reply = client.request("PUT", {"digest": digest, "bytes_total": len(content), "offset": 0}).header
        assert reply["complete"]
        (artifact,) = client.artifacts(type="model")
        assert (artifact["name"], artifact["version"]) == ("tiny", 1)
        assert (pathlib.Path(broker.home) / "models" / artifact["digest"][7:] / "data.txt").read_text() == "base"
        # One worker, not two: the one of before was taken over or is gone.
        assert len([worker for worker in client.workers()["workers"] if worker.get("pid")]) == 1
    assert "another maker-1" not in broker.log()


def test_loraqd_is_killed_between_store_and_sockets(broker):
    mark = arm(broker, "storeOpened")
    with pytest.raises(harness.NotReady):
        broker.start()
    assert mark.exists()
    broker.start()
    client = broker.client()
    check_batch(client, client.batch(lines("a"), kind="count"), "a")


def test_result_lines_are_there_though_their_file_was_lost_before_it_was_synced(broker):
    """What a power cut does to a file that is written and not synced: the store keeps the lines until it is."""
    mark = arm(broker, "linesSettled")
    broker.start()
    client = broker.client()
    job = client.batch(lines("a"), kind="count")
    until(mark.exists, "it dies before the store lets go of the lines")
    assert broker.process is not None
    broker.process.wait()
    files = list((broker.home / "runs" / job).glob("results-*.jsonl"))
    assert files
    for file in files:
        file.unlink()
    broker.start()
    check_batch(broker.client(), job, "a")


def test_loraqd_is_killed_while_it_ends_in_order(broker):
    mark = arm(broker, "stopBegun")
    broker.start()
    client = broker.client()
    job = client.batch(lines("a"), kind="count")
    broker.stop()
    assert mark.exists()
    broker.start()
    check_batch(broker.client(), job, "a")


DAY_MS = 86_400_000


@pytest.mark.parametrize("name", ["jobsPruned", "blobsForgotten"])
def test_loraqd_is_killed_between_pruning_the_store_and_the_files(broker, name):
    """KINDS 25: what the store has forgotten leaves no file for ever."""
    broker.start()
    client = broker.client()
    old, young = (client.batch(lines(prefix), kind="count") for prefix in ("a", "b"))
    for job, prefix in ((old, "a"), (young, "b")):
        check_batch(client, job, prefix)
    loose = client.upload(b"nobody needs this")
    broker.stop()
    # As it will be after the retention: the old job's times, and those of the blobs, lie far back.
    with sqlite3.connect(broker.home / "jobs.sqlite") as store:
        store.execute("UPDATE jobs SET finished_at = finished_at - ? WHERE id = ?", (100 * DAY_MS, old))
        store.execute("UPDATE blobs SET stored_at = stored_at - ?", (100 * DAY_MS,))
    store.close()
    for file in (broker.home / "blobs").glob("??/*"):
        os.utime(file, (1, 1))
    mark = arm(broker, name)
    with broker.kept_running():
        client = broker.client(timeout=DEADLINE_S)
        until(mark.exists, f"{name} is reached")
        until(lambda: not (broker.home / "runs" / old).exists(), "the folder of the pruned job is gone")
        until(lambda: not blob(broker, loose).exists(), "the blob that nothing needs is gone")
        with pytest.raises(LoraqError) as gone:
            client.job(old)
        assert gone.value.code == "GONE"
        # What is referenced is untouched.
        check_batch(client, young, "b")
        assert client.retry(young, only="all")["tasks"] == LINES
        check_batch(client, young, "b")


def blob(broker, digest: str) -> pathlib.Path:
    return broker.home / "blobs" / digest[7:9] / digest[7:]


def test_a_failpoint_that_does_not_exist_is_refused(broker):
    broker.environment["LORAQ_FAILPOINT"] = "999:1:/tmp/x"
    with pytest.raises(harness.NotReady, match="LORAQ_FAILPOINT"):
        broker.start()


def test_every_place_in_loraqd_is_in_this_file():
    of_the_broker = {name for name, number in POINTS.items() if number < 32}
    assert of_the_broker == {name for name, _ in WHILE_RUNNING} | ELSEWHERE
    assert len(of_the_broker) > 15
