"""A rolling upgrade of a plugin while a batch runs: one worker after the other is drained and comes back as the new version."""

import os

import harness
from harness import DEADLINE_S, until

SCRIPT = f"""#!{os.sys.executable}
import pathlib, sys, time
sys.path.insert(0, {str(harness.ROOT / "clients/python/src")!r})
from loraq.worker import Worker
version = pathlib.Path("version").read_text()
worker = Worker(version=version, numerics=version)
@worker.kind("stamp", threads=1, prefetch=2)
def stamp(task):
    time.sleep(0.01)
    return {{"by": version}}
worker.run()
"""


def test_a_plugin_is_upgraded_under_a_running_batch_and_nothing_is_lost(tmp_path):
    folder = harness.plugin_folder(tmp_path, "stamp", SCRIPT, {"kinds": [{"name": "stamp", "class": "slot"}], "instances": 2})
    version = folder / "stamp" / "version"
    version.write_text("v1")
    with harness.running(folder) as broker:
        client = broker.client()

        def states() -> dict[str, str]:
            return {worker["instance"]: worker["state"] for worker in client.workers()["workers"]}

        def numerics() -> list[str | None]:
            return sorted(str(worker.get("numerics")) for worker in client.workers()["workers"])

        until(lambda: numerics() == ["v1", "v1"], "both workers are ready")
        count = 600
        mixed = client.batch([{"custom_id": f"c{n}"} for n in range(count)], kind="stamp", numerics="any")
        pinned = client.batch([{"custom_id": f"c{n}"} for n in range(count)], kind="stamp", tenant="other")
        for job in (mixed, pinned):
            until(lambda job=job: client.job(job)["counts"]["done"] >= 5, "the batch runs")
        version.write_text("v2")
        for instance in ("stamp-1", "stamp-2"):
            client.drain(instance)
            until(lambda instance=instance: states().get(instance) == "stopped", "it has ended what it held and left")
            client.scale("stamp", 2)
        until(lambda: numerics() == ["v2", "v2"], "both workers are of the new version")
        assert client.wait(mixed, DEADLINE_S)["state"] == "succeeded"
        assert {line["by"] for line in client.results(mixed)} == {"v1", "v2"}
        assert client.verify(mixed)["answers"]["done"] == count
        # The other one is not mixed: it says what it waits for, and goes on when it is told that it may.
        assert client.explain(pinned)["reason"]["code"] == "NUMERICS_UNAVAILABLE"
        assert {line["by"] for line in client.results(pinned, follow=False)} == {"v1"}
        client.cancel(pinned)
        client.retry(pinned, numerics="any")
        assert client.wait(pinned, DEADLINE_S)["state"] == "succeeded"
        proof = client.verify(pinned)
        assert proof["verified"], proof
        assert proof["answers"]["done"] == count
        # No attempt was lost or paid for: a drained worker ends what it holds.
        assert not [event for event in client.events() if event["type"] in ("task.retry", "task.failed", "worker.lost")]


def test_two_versions_of_a_worker_at_once_share_no_job_but_one_that_allows_it(tmp_path):
    """A job pins the numerics of its first attempt; both versions work at the same time, on different jobs."""
    script = SCRIPT.replace('pathlib.Path("version").read_text()', '"v" + os.environ["LORAQ_INSTANCE"][-1]')
    script = script.replace("import pathlib", "import os, pathlib")
    manifest = {"kinds": [{"name": "stamp", "class": "slot"}], "instances": 2}
    with harness.running(harness.plugin_folder(tmp_path, "stamp", script, manifest)) as broker:
        client = broker.client()
        until(lambda: sorted(str(w.get("numerics")) for w in client.workers()["workers"]) == ["v1", "v2"], "both are ready")
        count = 150
        pinned = client.batch([{"custom_id": f"c{n}"} for n in range(count)], kind="stamp")
        mixed = client.batch([{"custom_id": f"c{n}"} for n in range(count)], kind="stamp", numerics="any", tenant="other")
        late = client.batch([{"custom_id": f"c{n}"} for n in range(20)], kind="stamp", tenant="third")
        for job in (pinned, mixed, late):
            assert client.wait(job, DEADLINE_S)["state"] == "succeeded"
        by = {job: {line["by"] for line in client.results(job)} for job in (pinned, mixed, late)}
        assert len(by[pinned]) == len(by[late]) == 1
        assert set.union(*by.values()) == {"v1", "v2"}, "both have worked"
        for job in (pinned, mixed, late):
            assert client.verify(job)["verified"]
