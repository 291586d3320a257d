"""docs/operations.md: a copy of the home of a stopped broker is a backup; a broker on the copy goes on with it."""

import collections
import shutil
import signal
import subprocess

import harness
from harness import BIN, DEADLINE_S
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


def test_a_second_broker_on_one_home_is_refused_and_the_first_goes_on(broker):
    client = broker.client()
    before = client.ping()["epoch"]
    command = [str(BIN / "loraqd"), "--home", str(broker.home), "--no-workers"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert second.returncode == 3, second.stderr
    job = client.batch(words(5), kind="wordcount")
    assert client.wait(job, DEADLINE_S)["state"] == "succeeded"
    assert client.ping()["epoch"] == before
