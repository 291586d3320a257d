"""One home has one broker, whatever is removed from it; a copy of a home leaves the original's processes alone."""

import contextlib
import os
import shutil
import subprocess
import sys

import harness
from harness import BIN, DEADLINE_S, Broker, until
from loraq import Client
from test_queue import words

PLUGIN = f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(harness.ROOT / "clients/python/src")!r})
from loraq.worker import Worker
worker = Worker(version="1")

@worker.kind("nothing")
def nothing(task):
    return {{}}

worker.run()
"""


def worker_of(client: Client) -> dict:
    workers = client.workers()["workers"]
    return workers[0] if workers else {"state": "none yet", "pid": None}


def test_a_home_whose_run_folder_is_removed_keeps_its_broker_and_gets_no_second(broker):
    client = broker.client()
    before = client.ping()["epoch"]
    shutil.rmtree(broker.home / "run")
    command = [str(BIN / "loraqd"), "--home", str(broker.home), "--no-workers"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert second.returncode == 3, second.stderr
    assert f"process {broker.process.pid}" in second.stderr
    # The sockets come back by themselves, for clients that come anew and for workers.
    names = {"control", "dispatch", "results", "events"}
    until(lambda: names <= {path.name for path in (broker.home / "run").glob("*")}, "the sockets are back")
    assert (broker.home / "run").stat().st_mode & 0o077 == 0
    new = broker.client()
    assert new.ping()["epoch"] == before
    new.scale("wordcount", 2)
    job = new.batch(words(5), kind="wordcount")
    assert new.wait(job, DEADLINE_S)["state"] == "succeeded"
    assert client.ping()["epoch"] == before, "connections that were open stay"
    until(lambda: {worker["state"] for worker in new.workers()["workers"]} == {"ready"}, "a new worker comes in")


def test_a_broker_whose_store_is_removed_ends(broker):
    for path in broker.home.glob("jobs.sqlite*"):
        path.unlink()
    assert broker.process.wait(DEADLINE_S) == 0
    assert "was removed or moved: the broker ends" in broker.log()


def test_a_broker_on_a_copy_of_a_home_leaves_the_workers_of_the_original_alone(tmp_path):
    kinds = [{"name": "nothing", "class": "slot"}]
    # A worker that another broker has adopted in error is killed when it has not come to it in this time.
    manifest = {"kinds": kinds, "instances": 1, "ready_timeout_ms": 2000}
    folder = harness.plugin_folder(tmp_path, "nothing", PLUGIN, manifest)
    with harness.running(folder) as original:
        client = original.client()
        pid = until(lambda: worker_of(client)["state"] == "ready" and worker_of(client)["pid"], "the worker is ready")
        original.kill()
        copy = Broker([folder])
        shutil.rmtree(copy.home)
        shutil.copytree(original.home, copy.home, ignore=lambda at, _: ["run"] if at == str(original.home) else [])
        with contextlib.closing(copy):
            original.start()
            copy.start()
            theirs = copy.client()
            until(lambda: worker_of(theirs)["state"] == "ready", "the copy has a worker of its own")
            assert worker_of(theirs)["pid"] != pid
            os.kill(pid, 0)
            again = original.client()
            until(lambda: worker_of(again)["state"] == "ready", "the original has its worker again")
            assert worker_of(again)["pid"] == pid
            assert f"process {pid}, nothing-1, belongs to another home" in copy.log()
