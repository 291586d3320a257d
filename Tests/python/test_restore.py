"""docs/operations.md: a copy of a stopped broker's home, and what `loraq backup` makes of a running one: a broker goes on."""

import collections
import json
import shutil
import signal
import subprocess

import harness
import pytest
from harness import BIN, DEADLINE_S, until
from loraq import LoraqError
from test_queue import words


def test_a_copy_of_a_stopped_home_goes_on_elsewhere(broker):
    client = broker.client()
    done = client.batch(words(50), kind="wordcount")
    assert client.wait(done, DEADLINE_S)["state"] == "succeeded"
    answers = sorted(line["custom_id"] for line in client.results(done, follow=False))
    client.scale("wordcount", 0)
    waiting = client.batch(words(20), kind="wordcount")
    client.hold(waiting)
    assert broker.process is not None
    broker.process.send_signal(signal.SIGTERM)
    assert broker.process.wait(DEADLINE_S) == 0

    copy = harness.Broker(broker.workers)
    shutil.rmtree(copy.home)
    shutil.copytree(broker.home, copy.home, ignore=lambda folder, _: ["run"] if folder == str(broker.home) else [])
    # Nothing of the first home is needed any more.
    shutil.rmtree(broker.home)
    try:
        copy.start()
        restored = copy.client()
        assert sorted(line["custom_id"] for line in restored.results(done, follow=False)) == answers
        assert restored.verify(done)["verified"]
        assert restored.job(waiting)["state"] == "held"
        restored.release(waiting)
        restored.scale("wordcount", 1)
        assert restored.wait(waiting, DEADLINE_S)["state"] == "succeeded"
        found = collections.Counter(line["custom_id"] for line in restored.results(waiting))
        assert found == collections.Counter(f"c{number}" for number in range(20))
    finally:
        copy.close()


def answers(client, job: str) -> collections.Counter:
    return collections.Counter(line["custom_id"] for line in client.results(job, stream="all", follow=False))


def test_a_backup_that_is_made_while_jobs_run_is_whole_and_goes_on_elsewhere(broker, tmp_path):
    """KINDS 25: nothing is removed under a running backup; the copy is of one moment, and disturbs nobody."""
    client = broker.client()
    done = client.batch(words(300), kind="wordcount")
    client.wait(done, DEADLINE_S)
    long = client.submit("countdown", {"seconds": 2})
    count = 4000
    running = client.batch(words(count), kind="wordcount")
    until(lambda: client.job(running)["counts"]["done"] > 200, "the batch runs")
    command = [str(BIN / "loraq"), "backup", str(tmp_path / "copy"), "--home", str(broker.home), "--json"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["complete"]
    again = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert again.returncode == 1 and "not empty" in again.stderr
    assert client.wait(running, DEADLINE_S)["state"] == "succeeded"
    pid = client.workers()["workers"][0]["pid"]

    copy = harness.Broker(broker.workers)
    shutil.rmtree(copy.home)
    shutil.copytree(tmp_path / "copy", copy.home)
    try:
        copy.start()
        restored = copy.client()
        assert answers(restored, done) == collections.Counter(f"c{number}" for number in range(300))
        for job in (running, long):
            assert restored.wait(job, DEADLINE_S)["state"] == "succeeded"
        assert answers(restored, running) == collections.Counter(f"c{number}" for number in range(count))
        for job in (done, running):
            assert restored.verify(job)["verified"]
        # The first broker's worker is the first broker's.
        assert client.workers()["workers"][0]["pid"] == pid
        assert client.wait(client.batch(words(5), kind="wordcount"), DEADLINE_S)["state"] == "succeeded"
    finally:
        copy.close()


@pytest.mark.parametrize(("path", "reason"), [("relative", "absolute"), ("{home}/x", "inside"), ("{home}", "inside")])
def test_a_backup_to_an_unfit_place_is_refused(broker, path, reason):
    client = broker.client()
    with pytest.raises(LoraqError, match=reason):
        client.request("BACKUP", {"backup": "b", "path": path.format(home=broker.home)})


def test_a_second_broker_on_one_home_is_refused_and_the_first_goes_on(broker):
    client = broker.client()
    before = client.ping()["epoch"]
    command = [str(BIN / "loraqd"), "--home", str(broker.home), "--no-workers"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert second.returncode == 3, second.stderr
    job = client.batch(words(5), kind="wordcount")
    assert client.wait(job, DEADLINE_S)["state"] == "succeeded"
    assert client.ping()["epoch"] == before
