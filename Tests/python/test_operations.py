"""Scaling, draining, logs, limits of time, silence and stillness, strict files, large files."""

import json
import os
import signal
import sys

import harness
import pytest
from harness import DEADLINE_S, until
from loraq import LoraqError
from test_queue import jsonl, words

PLUGIN = f"""#!{sys.executable}
import sys, time
sys.path.insert(0, {str(harness.ROOT / "clients/python/src")!r})
from loraq.worker import Worker
worker = Worker(version="1")

@worker.kind("still", threads=2)
def still(task):
    task.log("standing still")
    while True:
        time.sleep(0.01)
        if task.spec.get("polite"):
            task.check()
        if task.spec.get("moves"):
            task.advance()

worker.run()
"""


@pytest.fixture
def still_client(tmp_path):
    """A broker whose plugin has one kind that never ends, and may stand still for half a second."""
    kinds = [{"name": "still", "class": "slot", "stall_ms": 500}]
    folder = harness.plugin_folder(tmp_path, "still", PLUGIN, {"kinds": kinds, "instances": 1})
    with harness.running(folder) as broker:
        yield broker.client()


def test_a_task_that_stands_still_is_hung_and_tried_again(still_client):
    """KINDS 19."""
    job = still_client.submit("still", {})
    event = until(
        lambda: next((e for e in still_client.events(job=job) if e["type"] == "task.retry"), None), "the task is tried again"
    )
    assert "HUNG" in json.dumps(event)
    still_client.cancel(job)
    assert still_client.wait(job, DEADLINE_S)["state"] == "cancelled"


def test_a_task_that_moves_is_not_hung_and_ends_by_the_cap_of_its_job(still_client):
    job = still_client.submit("still", {"moves": True, "polite": True}, max_seconds=2)
    status = still_client.wait(job, DEADLINE_S)
    assert status["state"] == "failed"
    assert status["error"]["code"] == "TIMEOUT"
    assert status["finished_at_ms"] - status["started_at_ms"] >= 2000


def test_a_cancel_ends_even_what_does_not_listen(still_client):
    """KINDS 21."""
    job = still_client.submit("still", {"moves": False})
    until(lambda: still_client.job(job)["state"] == "running", "the task runs")
    still_client.cancel(job)
    assert still_client.wait(job, DEADLINE_S)["state"] == "cancelled"


def test_logs_of_a_job_and_of_a_worker(still_client):
    job = still_client.submit("still", {"moves": True, "polite": True})
    until(lambda: "standing still" in still_client.logs(job), "the log line is there")
    instance = still_client.workers()["workers"][0]["instance"]
    assert isinstance(still_client.logs(worker=instance), str)
    with pytest.raises(LoraqError):
        still_client.logs(worker="nobody-1")
    still_client.cancel(job)
    still_client.wait(job, DEADLINE_S)


def test_plugins_are_scaled_up_and_down(client):
    client.scale("wordcount", 3)
    ready = until(
        lambda: (w := [x for x in client.workers()["workers"] if x["state"] == "ready"]) and len(w) == 3 and w, "three are ready"
    )
    assert len({worker["pid"] for worker in ready}) == 3
    client.scale("wordcount", 1)
    until(lambda: sum(x["state"] == "ready" for x in client.workers()["workers"]) == 1, "one is left")
    assert client.wait(client.batch(words(50), kind="wordcount"), DEADLINE_S)["state"] == "succeeded"
    with pytest.raises(LoraqError):
        client.scale("nobody", 1)


def test_a_stopped_broker_leaves_no_process(broker):
    """KINDS 21: no process and no zombie."""
    client = broker.client()
    client.wait(client.batch(words(5), kind="wordcount"), DEADLINE_S)
    pids = [worker["pid"] for worker in client.workers()["workers"]]
    assert pids
    broker.process.send_signal(signal.SIGTERM)
    assert broker.process.wait(DEADLINE_S) == 0

    def gone(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    until(lambda: all(gone(pid) for pid in pids), "the workers have ended")
    broker.start()
    assert client.wait(client.batch(words(5), kind="wordcount"), DEADLINE_S)["state"] == "succeeded"


def test_a_worker_that_was_frozen_past_its_lease_does_no_harm(broker):
    """KINDS 19 and 22."""
    client = broker.client()
    count = 3000
    job = client.batch(words(count), kind="wordcount")
    until(lambda: client.job(job)["counts"]["done"] >= 100, "the batch runs")
    worker = client.workers()["workers"][0]
    os.kill(worker["pid"], signal.SIGSTOP)
    try:
        # Its lease runs out: what it held goes back, or the broker sees it silent.
        until(lambda: client.workers()["workers"][0]["state"] != "ready", "the worker is missed")
    finally:
        os.kill(worker["pid"], signal.SIGCONT)
    status = client.wait(job, DEADLINE_S)
    assert status["state"] == "succeeded"
    assert status["counts"]["done"] == count
    seen = [line["custom_id"] for line in client.results(job)]
    assert len(seen) == count
    assert len(set(seen)) == count


def test_a_large_file_flows_through_a_bounded_window(broker):
    client = broker.client()
    count = 30_000
    job = client.batch(jsonl([{"custom_id": f"c{n}", "text": "a b"} for n in range(count)]), kind="wordcount")
    most = 0
    while (status := client.job(job))["state"] not in ("succeeded", "failed"):
        counts = status["counts"]
        most = max(most, counts["leased"])
        assert counts["leased"] <= 256
        lines, _, _ = client.fetch(job, limit=1)  # readable while it runs
        if counts["done"] > 0:
            assert lines
    assert status["counts"]["done"] == count
    assert most > 0
    numbers = [int(line["custom_id"][1:]) for line in client.results(job, order="input")]
    assert numbers == list(range(count))
