"""SIGSTOP for longer than the lease, then SIGCONT: of a worker, and of the broker."""

import collections
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import harness
import pytest
from harness import DEADLINE_S, until
from test_queue import words

LEASE_MS = 1000


@pytest.fixture
def broker():
    with harness.running(harness.EXAMPLES, lease_ms=LEASE_MS) as broker:
        yield broker


def types(client, **which) -> list[str]:
    return [event["type"] for event in client.events(**which)]


def states(client) -> dict[str, str]:
    return {worker["instance"]: worker["state"] for worker in client.workers()["workers"]}


def start_by_hand(broker: harness.Broker, instance: str) -> subprocess.Popen[bytes]:
    """A worker that the broker has not started, and so does not kill when it is silent."""
    environment = {
        "LORAQ_DISPATCH": broker.endpoint("dispatch"),
        "LORAQ_RESULTS": broker.endpoint("results"),
        "LORAQ_INSTANCE": instance,
        "LORAQ_PLUGIN": "wordcount",
    }
    script = harness.EXAMPLES / "wordcount" / "worker.py"
    return subprocess.Popen([sys.executable, str(script)], env=os.environ | environment)


def test_a_worker_that_stood_still_past_its_lease_comes_back_and_nothing_is_done_twice(tmp_path):
    """KINDS 19: its leases end by its silence; what it says afterwards is refused by token."""
    kinds = [{"name": name, "class": "slot"} for name in ("wordcount", "countdown")]
    folder = harness.plugin_folder(tmp_path, "wordcount", "#!/bin/sh\n", {"kinds": kinds, "instances": 0})
    with harness.running(folder, lease_ms=LEASE_MS) as broker, contextlib.ExitStack() as stack:
        client = broker.client()
        workers = {name: start_by_hand(broker, name) for name in ("hand-1", "hand-2")}
        for process in workers.values():
            stack.callback(process.wait)
            stack.callback(process.kill)
        until(lambda: list(states(client).values()) == ["ready", "ready"], "two workers are ready")
        count = 2000
        job = client.batch(words(count), kind="wordcount")
        long = client.submit("countdown", {"seconds": 1})
        until(lambda: "task.started" in types(client, job=long), "the long task runs")
        (instance,) = [event["worker"] for event in client.events(job=long) if event["type"] == "task.started"]
        os.kill(workers[instance].pid, signal.SIGSTOP)
        # The other one does all, also what the one that stands still held.
        assert client.wait(job, DEADLINE_S)["state"] == "succeeded"
        assert client.wait(long, DEADLINE_S)["result"]["attempt"] == 2
        os.kill(workers[instance].pid, signal.SIGCONT)
        until(lambda: states(client).get(instance) == "ready", "it is back")
        again = client.batch(words(200), kind="wordcount")
        assert client.wait(again, DEADLINE_S)["state"] == "succeeded"
        assert workers[instance].poll() is None
        proof = client.verify(job)
        assert proof["verified"] and proof["answers"]["done"] == count, proof
        answers = collections.Counter(line["custom_id"] for line in client.results(job))
        assert answers == collections.Counter(f"c{number}" for number in range(count))
        assert types(client, job=long).count("job.succeeded") == 1


def test_a_worker_of_the_brokers_own_that_stands_still_is_replaced(broker):
    """KINDS 20: after its lease it is killed, with all its group, and started again."""
    client = broker.client()
    until(lambda: states(client) == {"wordcount-1": "ready"}, "it is ready")
    (first,) = (worker["pid"] for worker in client.workers()["workers"])
    job = client.batch(words(1000), kind="wordcount")
    until(lambda: client.job(job)["counts"]["done"] > 0, "the batch runs")
    os.kill(first, signal.SIGSTOP)
    assert client.wait(job, DEADLINE_S)["counts"]["done"] == 1000
    assert client.verify(job)["verified"]
    (second,) = (worker["pid"] for worker in client.workers()["workers"])
    assert second != first
    assert not pathlib.Path(f"/proc/{first}").exists()


def test_a_broker_that_stood_still_past_all_leases_blames_nobody(broker):
    """KINDS 19, 22: a gap in the broker's own loop is nobody's silence."""
    client = broker.client()
    long = client.submit("countdown", {"seconds": 5})
    until(lambda: (client.job(long).get("progress") or {}).get("done", 0) > 0, "it runs")
    assert broker.process is not None
    os.kill(broker.process.pid, signal.SIGSTOP)
    # The fault itself: four times the lease.
    time.sleep(4 * LEASE_MS / 1000)
    os.kill(broker.process.pid, signal.SIGCONT)
    status = client.wait(long, DEADLINE_S)
    assert status["state"] == "succeeded"
    assert status["result"]["attempt"] == 1
    assert not {"task.retry", "worker.lost"} & set(types(client))
