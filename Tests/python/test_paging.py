"""Answers of several pages are read to their end, by both clients: nothing is left out in silence."""

import json
import subprocess

import pytest
from harness import BIN, DEADLINE_S, FakeWorker


def loraq(broker, *words: str) -> subprocess.CompletedProcess:
    command = [str(BIN / "loraq"), *words, "--home", str(broker.home)]
    return subprocess.run(command, capture_output=True, text=True, timeout=2 * DEADLINE_S, check=False)


def lines_of(done: subprocess.CompletedProcess) -> list:
    return [json.loads(line) for line in done.stdout.splitlines()]


def jobs_of(done: subprocess.CompletedProcess) -> list[dict]:
    return json.loads(done.stdout)["jobs"]


def test_status_and_wait_know_every_job_of_a_label(bare_broker):
    client = bare_broker.client()
    label = "many" + "x" * 150
    jobs = [client.submit("echo", {"n": n}, label=label) for n in range(250)]
    assert [job["job"] for job in client.status(label)] == jobs[::-1]
    assert [job["job"] for job in client.status(*jobs)] == jobs
    assert [job["job"] for job in jobs_of(loraq(bare_broker, "status", label, "--json"))] == jobs[::-1]
    # All but the oldest end: it stands on the last page, and no wait is over before it.
    client.cancel(*jobs[1:])
    assert loraq(bare_broker, "wait", label, "--quiet", "--timeout", "0.2").returncode == 4
    client.cancel(jobs[0])
    ended = loraq(bare_broker, "wait", label, "--quiet", "--json")
    assert sorted(job["job"] for job in jobs_of(ended)) == sorted(jobs)


def test_jobs_with_great_results_come_one_a_page(bare_broker, worker: FakeWorker):
    client = bare_broker.client()
    jobs = [client.submit("echo", {"n": n}) for n in range(4)]
    worker.hello()
    worker.credit(4)
    for task in worker.tasks(4):
        worker.finish(task, {"text": task["job"] + "x" * 40_000})
        worker.acknowledged(task)
    assert [job["result"]["text"][:36] for job in client.status(*jobs)] == jobs
    waited = jobs_of(loraq(bare_broker, "wait", *jobs, "--json"))
    assert [job["result"]["text"][:36] for job in waited] == jobs


def test_a_page_that_follows_no_job_of_the_selectors_is_refused(bare_broker):
    client = bare_broker.client()
    job, other = (client.submit("echo", {"n": n}) for n in range(2))
    with pytest.raises(Exception, match="ask again without `after`"):
        client.request("STATUS", {"jobs": [job], "after": other})


def test_ordered_lines_behind_a_page_of_the_other_stream_are_read(broker, tmp_path):
    """A page looks at 50,000 lines at most."""
    client = broker.client()
    good = json.dumps({"custom_id": "good", "text": "a b c"})
    job = client.batch("".join(["x\n"] * 50_100 + [good + "\n"]).encode(), kind="wordcount")
    assert client.wait(job, DEADLINE_S)["lines"]["bad"] == 50_100
    for follow in (True, False):
        assert [line["custom_id"] for line in client.results(job, order="input", follow=follow)] == ["good"]
    assert [line["custom_id"] for line in lines_of(loraq(broker, "results", job, "--ordered"))] == ["good"]
    out = tmp_path / "out.jsonl"
    assert loraq(broker, "results", job, "--ordered", "-o", str(out)).returncode == 0
    assert out.read_text().count("\n") == 1


@pytest.mark.parametrize("label", ["0", "a", "0193b5a0", "000a"])
def test_a_label_that_is_a_part_of_its_jobs_own_id_names_the_job(bare_broker, label):
    client = bare_broker.client()
    job = client.submit("echo", {}, label=label, id="0193b5a0-0000-7000-8000-00000000000a")
    assert [found["job"] for found in client.status(label)] == [job]
    assert client.explain(label)["job"] == job
    other = client.submit("echo", {}, label=label, id="0193b5a0-0000-7000-8000-00000000001a")
    assert [found["job"] for found in client.status(label)] == [other, job]
