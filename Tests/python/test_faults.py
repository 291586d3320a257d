"""Killing the broker and its workers in the middle of work; late, lost and repeated messages."""

import collections
import os
import signal

import harness
import pytest
from harness import DEADLINE_S, FakeWorker, until
from loraq import LoraqError
from test_queue import words


def test_every_line_once_though_the_broker_is_killed_again_and_again(broker):
    client = broker.client()
    count = 600
    job = client.batch(words(count), kind="wordcount")
    for target in (50, 200, 400):
        until(lambda t=target: client.job(job)["counts"]["done"] >= t, f"{target} lines are done")
        broker.restart()
    status = client.wait(job, DEADLINE_S)
    assert status["state"] == "succeeded"
    assert status["counts"]["done"] == count
    answers = collections.Counter(line["custom_id"] for line in client.results(job))
    assert answers == collections.Counter(f"c{n}" for n in range(count))


def test_a_running_task_survives_the_brokers_death_without_a_restart(broker):
    client = broker.client()
    job = client.submit("countdown", {"seconds": 3})
    until(lambda: (client.job(job).get("progress") or {}).get("done", 0) >= 0.5, "the countdown runs")
    workers = client.workers()["workers"]
    broker.restart()
    status = client.wait(job, DEADLINE_S)
    assert status["state"] == "succeeded"
    assert status["result"]["attempt"] == 1
    assert status["result"]["resumed_from"] == 0
    assert client.workers()["workers"][0]["pid"] == workers[0]["pid"]


def test_a_result_that_waited_for_the_broker_is_taken_in(bare_broker, worker):
    client = bare_broker.client()
    worker.hello()
    worker.credit(1)
    job = client.submit("long", {})
    (task,) = worker.tasks(1)
    bare_broker.restart()
    assert worker.receive("ERROR").header["error"]["code"] == "UNKNOWN_SESSION"
    worker.waiting.clear()
    # The task ended meanwhile: its result waits in the worker's spool.
    worker.hello([harness.reference(task) | {"finished": True, "class": "slot"}])
    worker.finish(task, {"n": 2})
    assert worker.acknowledged(task) == "accepted"
    assert client.wait(job, DEADLINE_S)["result"] == {"n": 2}


def test_lines_run_again_when_their_worker_is_killed(broker):
    client = broker.client()
    count = 2000
    job = client.batch(words(count), kind="wordcount")
    long = client.submit("countdown", {"seconds": 0.3})
    for target in (100, 900):
        until(lambda t=target: client.job(job)["counts"]["done"] >= t, f"{target} lines are done")
        pid = until(
            lambda: next((w.get("pid") for w in client.workers()["workers"] if w["state"] == "ready"), None), "a worker is ready"
        )
        os.kill(pid, signal.SIGKILL)
    status = client.wait(job, DEADLINE_S)
    assert status["state"] == "succeeded"
    assert status["counts"]["done"] == count
    answers = collections.Counter(line["custom_id"] for line in client.results(job))
    assert answers == collections.Counter(f"c{n}" for n in range(count))
    assert client.wait(long, DEADLINE_S)["state"] == "succeeded"


def test_a_silent_worker_loses_its_lease_and_its_late_result_is_stale(bare_broker, worker):
    client = bare_broker.client()
    worker.hello()
    worker.credit(1)
    job = client.submit("long", {})
    (task,) = worker.tasks(1)
    # Silence: no beat is sent until another worker has been given the task.
    other = FakeWorker(bare_broker)
    try:
        other.hello()
        other.credit(1)
        (again,) = other.tasks(1)
        assert again["task"] == task["task"]
        assert again["lease"] != task["lease"]
        worker.finish(task, {"who": "late"})
        other.finish(again, {"who": "right"})
        assert other.acknowledged(again) == "accepted"
    finally:
        other.close()
    assert client.wait(job, DEADLINE_S)["result"] == {"who": "right"}


def test_a_repeated_result_is_accepted_once(bare_broker, worker):
    client = bare_broker.client()
    worker.hello()
    worker.credit(2)
    job = client.batch([{"custom_id": "a"}, {"custom_id": "b"}], kind="echo")
    tasks = worker.tasks(2)
    for _ in range(3):
        worker.finish(tasks[0], {"custom_id": tasks[0]["custom_id"]})
    worker.finish(tasks[1], {"custom_id": tasks[1]["custom_id"]})
    assert worker.acknowledged(tasks[0]) in ("accepted", "stale")
    worker.acknowledged(tasks[1])
    assert client.wait(job, DEADLINE_S)["counts"]["done"] == 2
    assert sorted(line["custom_id"] for line in client.results(job)) == ["a", "b"]


def test_a_worker_goes_on_with_what_it_holds_after_the_brokers_death(bare_broker, worker):
    client = bare_broker.client()
    worker.hello()
    worker.credit(1)
    job = client.submit("long", {})
    (task,) = worker.tasks(1)
    bare_broker.restart()
    # The old session is unknown now; the attempt is not.
    error = worker.receive("ERROR")
    assert error.header["error"]["code"] == "UNKNOWN_SESSION"
    worker.waiting.clear()
    welcome = worker.hello([harness.reference(task)])
    assert welcome["keep"] == [harness.reference(task)]
    assert welcome["drop"] == []
    worker.finish(task, {"n": 1})
    assert worker.acknowledged(task) == "accepted"
    assert client.wait(job, DEADLINE_S)["result"] == {"n": 1}


def test_a_deferred_task_costs_no_attempt(bare_broker, worker):
    client = bare_broker.client()
    worker.hello()
    worker.credit(3)
    job = client.submit("long", {})
    (task,) = worker.tasks(1)
    worker.held.clear()
    header = {"session": worker.session, "tasks": [harness.reference(task)], "reason": "not now", "retry_after_ms": 0}
    worker.send("DEFER", header)
    (again,) = worker.tasks(1)
    assert again["task"] == task["task"]
    worker.finish(again, {})
    worker.acknowledged(again)
    assert client.wait(job, DEADLINE_S)["state"] == "succeeded"


def test_credit_is_never_exceeded(bare_broker, worker):
    client = bare_broker.client()
    worker.hello()
    worker.credit(3)
    job = client.batch([{"custom_id": str(n)} for n in range(10)], kind="echo")
    tasks = worker.tasks(3)
    assert worker.sees_no_task()
    for index, total in enumerate(range(4, 14)):
        task = tasks[index]
        worker.finish(task, {"custom_id": task["custom_id"]})
        worker.acknowledged(task)
        worker.credit(total)
        if len(tasks) < 10:
            tasks += worker.tasks(1)
    assert client.wait(job, DEADLINE_S)["counts"]["done"] == 10


def test_retryable_errors_are_tried_again_and_user_errors_are_not(bare_broker, worker):
    client = bare_broker.client()
    worker.hello()
    worker.credit(8)
    job = client.submit("long", {})
    (task,) = worker.tasks(1)
    worker.fail(task, {"code": "BUSY", "class": "retryable", "message": "try again"})
    (again,) = worker.tasks(1)
    assert again["attempt"] == task["attempt"] + 1
    worker.fail(again, {"code": "NO_LABELS", "class": "user", "message": "nothing to learn"})
    status = client.wait(job, DEADLINE_S)
    assert status["state"] == "failed"
    assert status["error"]["code"] == "NO_LABELS"


def test_a_cancel_reaches_the_worker_that_holds_the_task(bare_broker, worker):
    client = bare_broker.client()
    worker.hello()
    worker.credit(1)
    job = client.submit("long", {})
    (task,) = worker.tasks(1)
    client.cancel(job)
    stop = worker.receive("CANCEL").header
    assert stop["tasks"] == [{"task": task["task"], "attempt": task["attempt"]}]
    worker.sequence += 1
    result = harness.reference(task) | {"outcome": "cancelled"}
    worker.send("RESULT", {"session": worker.session, "seq": worker.sequence, "results": [result]}, socket=worker.results)
    assert client.wait(job, DEADLINE_S)["state"] == "cancelled"


def test_what_a_task_had_produced_before_its_cancel_is_kept(bare_broker, worker):
    """KINDS 21."""
    client = bare_broker.client()
    worker.hello()
    worker.credit(2)
    job = client.batch([{"custom_id": name} for name in ("a", "b")], kind="echo")
    first, second = worker.tasks(2)
    client.cancel(job)
    worker.receive("CANCEL")
    worker.finish(first, {"custom_id": first["custom_id"], "text": "half an ans"}, outcome="cancelled")
    assert worker.acknowledged(first) == "accepted"
    worker.finish(second, {"custom_id": second["custom_id"], "text": "too late"})
    assert worker.acknowledged(second) == "stale"
    worker.beat()
    worker.receive("BEAT_ACK")
    kept = list(client.results(job, stream="all"))
    assert [line["text"] for line in kept] == ["half an ans"]
    assert client.job(job)["counts"]["cancelled"] == 2


def test_tasks_are_admitted_on_an_estimate_of_their_memory(tmp_path):
    kinds = [{"name": "big", "class": "slot", "memory_bytes": 100 << 20}]
    folder = harness.plugin_folder(tmp_path, "fake", "#!/bin/sh\n", {"kinds": kinds, "instances": 0, "memory_bytes": 40 << 20})
    with harness.running(folder, memory_mib=250) as broker:
        client = broker.client()
        worker = harness.FakeWorker(broker, kinds=["big"])
        worker.hello()
        worker.credit(10)
        # 250 MiB, of which the worker itself may use 40: two of 100 go in, the third waits.
        jobs = [client.submit("big", {"n": n}) for n in range(3)]
        held = worker.tasks(2)
        assert worker.sees_no_task()
        reason = client.explain(jobs[2])["reason"]
        assert reason["code"] == "MEMORY", reason
        assert reason["details"] == {"need": 100 << 20, "free": 10 << 20}
        # What needs less goes on; what can never fit is refused at once.
        client.submit("big", {}, memory_bytes=5 << 20, priority=1)
        small = worker.tasks(1)[0]
        with pytest.raises(LoraqError) as refused:
            client.submit("big", {}, memory_bytes=300 << 20)
        assert refused.value.code == "LIMIT"
        for task in (small, held[0]):
            worker.finish(task, {})
            worker.acknowledged(task)
        assert worker.tasks(1)[0]["job"] == jobs[2]
        worker.close()


def test_a_drained_worker_ends_what_it_holds_and_gets_no_more(bare_broker, worker):
    client = bare_broker.client()
    worker.hello()
    worker.credit(10)
    first = client.submit("long", {})
    task = worker.tasks(1)[0]
    assert client.drain(worker.instance) == [worker.instance]
    worker.receive("DRAIN")
    second = client.submit("long", {})
    assert worker.sees_no_task()
    worker.finish(task, {"ok": True})
    assert worker.acknowledged(task) == "accepted"
    assert client.wait(first, DEADLINE_S)["state"] == "succeeded"
    other = FakeWorker(bare_broker)
    other.hello()
    other.credit(1)
    assert other.tasks(1)[0]["job"] == second
    # The whole broker: nothing new is taken or given out, what runs ends, nothing is lost.
    assert sorted(client.drain()) == sorted([worker.instance, other.instance])
    with pytest.raises(LoraqError) as refused:
        client.submit("long", {})
    assert refused.value.code == "DRAINING"
    (task,) = other.held.values()
    other.finish(task, {"ok": True})
    assert other.acknowledged(task) == "accepted"
    assert client.wait(second, DEADLINE_S)["state"] == "succeeded"
    other.close()


def test_an_upgrade_loses_nothing_and_says_what_waits_for_numerics_that_are_gone(bare_broker, worker):
    client = bare_broker.client()
    worker.numerics = "v1"
    worker.hello()
    worker.credit(2)
    begun = client.batch([{"custom_id": f"c{n}"} for n in range(4)], kind="echo")
    fresh = client.batch([{"custom_id": "fresh"}], kind="echo")
    held = worker.tasks(2)
    client.drain(worker.instance)
    worker.receive("DRAIN")
    for task in held:
        worker.finish(task, {"custom_id": task["custom_id"], "by": "v1"})
        worker.acknowledged(task)
    worker.send("BYE", {"session": worker.session})
    new = FakeWorker(bare_broker, numerics="v2")
    new.hello()
    new.credit(10)
    task = new.tasks(1)[0]
    assert task["job"] == fresh
    new.finish(task, {"custom_id": "fresh", "by": "v2"})
    new.acknowledged(task)
    reason = client.explain(begun)["reason"]
    assert reason["code"] == "NUMERICS_UNAVAILABLE", reason
    client.cancel(begun)
    client.retry(begun, numerics="any")
    for task in new.tasks(2):
        new.finish(task, {"custom_id": task["custom_id"], "by": "v2"})
        new.acknowledged(task)
    assert client.wait(begun, DEADLINE_S)["state"] == "succeeded"
    assert sorted(line["by"] for line in client.results(begun)) == ["v1", "v1", "v2", "v2"]
    assert client.verify(begun)["verified"]
    new.close()


def test_credit_counts_what_a_worker_says_it_holds_by_its_class(tmp_path):
    """A worker that comes back says the class of what it holds, also of tasks that this broker does not know."""
    kinds = [{"name": "echo", "class": "slot"}, {"name": "long", "class": "seat"}]
    folder = harness.plugin_folder(tmp_path, "fake", "#!/bin/sh\n", {"kinds": kinds, "instances": 0})
    with harness.running(folder) as broker:
        client = broker.client()
        worker = harness.FakeWorker(broker)
        unknown = {"task": "01931f0a-5c00-7abc-8def-0123456789ab/0", "attempt": 1, "lease": "0" * 32, "class": "slot"}
        welcome = worker.hello([unknown])
        assert [item["task"] for item in welcome["drop"]] == [unknown["task"]]
        client.batch([{"custom_id": name} for name in "abc"], kind="echo")
        # One of the three is spent on what it held.
        worker.credit(3)
        assert len(worker.tasks(2)) == 2
        assert worker.sees_no_task()
        worker.close()


def test_workers_of_other_numerics_do_not_take_a_jobs_tasks(bare_broker, worker):
    client = bare_broker.client()
    worker.hello()
    worker.credit(1)
    job = client.batch([{"custom_id": "a"}, {"custom_id": "b"}], kind="echo")
    (first,) = worker.tasks(1)
    other = FakeWorker(bare_broker, numerics="other")
    try:
        other.hello()
        other.credit(8)
        worker.finish(first, {"custom_id": first["custom_id"]})
        worker.acknowledged(first)
        assert other.sees_no_task()
        worker.credit(2)
        (second,) = worker.tasks(1)
        worker.finish(second, {"custom_id": second["custom_id"]})
        worker.acknowledged(second)
    finally:
        other.close()
    assert client.wait(job, DEADLINE_S)["numerics"] == "none"


def test_a_worker_that_kills_itself_at_every_attempt_is_set_aside_with_evidence(tmp_path):
    script = f"""#!{os.sys.executable}
import os, sys
sys.path.insert(0, {str(harness.ROOT / "clients/python/src")!r})
from loraq.worker import Worker
worker = Worker(version="1")
@worker.kind("deadly", threads=1, prefetch=0)
def deadly(task):
    if task.spec.get("die"):
        os.kill(os.getpid(), 11)
    return {{}}
worker.run()
"""
    folder = harness.plugin_folder(tmp_path, "deadly", script, {"kinds": [{"name": "deadly", "class": "slot"}], "instances": 1})
    with harness.running(folder) as broker:
        client = broker.client()
        poison = client.submit("deadly", {"die": True})
        fine = client.submit("deadly", {"die": False})
        assert client.wait(fine, DEADLINE_S)["state"] == "succeeded"
        status = client.wait(poison, DEADLINE_S)
        assert status["state"] == "failed"
        assert status["counts"]["dead"] == 1
        assert status["error"]["code"] == "WORKER_DIED"
