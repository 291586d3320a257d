"""The worker side against a broker of the test's own."""

import collections
import json
import threading
import time

import pytest
import zmq
from loraq import Message
from loraq.worker import PutBack, Stopped, TaskError, Worker

DEADLINE_S = 20.0
JOB = "01931f0a-5c00-7abc-8def-0123456789ab"


class Dispatch:
    """The broker's ROUTER and PULL, driven step by step."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.context = zmq.Context()
        self.waiting: list[Message] = []
        self.peer = b""
        self.bind()

    def bind(self) -> None:
        self.router = self.context.socket(zmq.ROUTER)
        self.pull = self.context.socket(zmq.PULL)
        for socket, name in ((self.router, "dispatch"), (self.pull, "results")):
            socket.setsockopt(zmq.LINGER, 0)
            socket.bind(f"ipc://{self.folder}/{name}")

    def rebind(self) -> None:
        """As a new broker would stand there: whatever was in the old one's sockets is gone."""
        self.router.close()
        self.pull.close()
        self.waiting.clear()
        self.bind()

    def send(self, verb, header, bodies=()) -> None:
        self.router.send_multipart([self.peer, *Message(verb, header, list(bodies)).frames()])

    def next(self, verb: str) -> Message:
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            for index, message in enumerate(self.waiting):
                if message.verb == verb:
                    return self.waiting.pop(index)
            if self.pull.poll(5):
                self.waiting.append(Message.parse(self.pull.recv_multipart()))
            elif self.router.poll(5):
                self.peer, *frames = self.router.recv_multipart()
                self.waiting.append(Message.parse(frames))
        raise AssertionError(f"no {verb}; waiting: {collections.Counter(message.verb for message in self.waiting)}")

    def welcome(self, session="s1", drop=()) -> Message:
        hello = self.next("HELLO")
        keep = [entry for entry in hello.header["holding"] if entry not in drop]
        fields = {"protocol": "LQP/1", "epoch": 1, "session": session, "heartbeat_ms": 20, "lease_ms": 60_000, "limits": {}}
        self.send("WELCOME", {"request_id": hello.request_id, "keep": keep, "drop": list(drop)} | fields)
        return hello

    def task(self, index: int, session="s1", **fields):
        reference = {"task": f"{JOB}/{index}", "attempt": 1, "lease": f"{index:032x}"}
        line = fields.pop("line", None)
        envelope = {"job": JOB, "kind": "echo", "class": "slot", "spec": {}, "inputs": [], "artifacts": []} | reference | fields
        bodies = []
        if line is not None:
            envelope |= {"line": index + 1, "custom_id": f"c{index}", "body": 0}
            bodies = [("line", json.dumps(line).encode())]
        self.send("TASK", {"session": session, "tasks": [envelope]}, bodies)
        return reference

    def result(self):
        message = self.next("RESULT")
        (result,) = message.header["results"]
        body = json.loads(message.bodies[result["body"]][1]) if "body" in result else None
        self.send("RESULT_ACK", {"results": [{"task": result["task"], "attempt": 1, "status": "accepted"}]})
        return result, body

    def close(self) -> None:
        self.router.close()
        self.pull.close()
        self.context.term()


@pytest.fixture
def started(tmp_path):
    dispatch = Dispatch(tmp_path)
    threads = []

    def start(function, **options):
        names = {"LORAQ_DISPATCH": f"ipc://{tmp_path}/dispatch", "LORAQ_RESULTS": f"ipc://{tmp_path}/results"}
        worker = Worker(version="1", environment=names | {"LORAQ_INSTANCE": "echo-1", "LORAQ_PLUGIN": "echo"})
        worker.kind("echo", **options)(function)
        threads.append(threading.Thread(target=worker.run, daemon=True))
        threads[-1].start()
        return dispatch

    yield start
    dispatch.send("DRAIN", {})
    dispatch.next("BYE")
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    dispatch.close()


def test_lines_are_answered_with_their_id(started):
    broker = started(lambda task: {"echo": task.request["text"]}, threads=2, prefetch=2)
    hello = broker.welcome().header
    assert hello["kinds"] == ["echo"]
    assert hello["holding"] == []
    assert broker.next("CREDIT").header["classes"] == {"slot": 4}
    broker.task(0, line={"custom_id": "c0", "text": "hi"})
    result, body = broker.result()
    assert result["outcome"] == "ok"
    assert body == {"id": f"{JOB}/0", "custom_id": "c0", "echo": "hi"}
    while broker.next("CREDIT").header["classes"] != {"slot": 5}:
        pass


def test_every_way_to_fail(started):
    def fail(task):
        what = task.spec["what"]
        if what == "user":
            raise TaskError("BAD_LINE", "wrong", param="text")
        if what == "defer":
            raise PutBack("later", 0.5)
        if what == "object":
            return {"x": object()}
        raise ValueError("a bug")

    broker = started(fail)
    broker.welcome()
    broker.task(0, spec={"what": "user"}, line={})
    result, body = broker.result()
    assert result["error"] == {"code": "BAD_LINE", "class": "user", "message": "wrong"}
    assert body["error"] == {"code": "BAD_LINE", "message": "wrong", "line": 1, "param": "text"}
    broker.task(1, spec={"what": "bug"})
    result, _ = broker.result()
    assert result["error"]["class"] == "retryable"
    assert "a bug" in result["error"]["message"]
    broker.task(2, spec={"what": "object"})
    assert broker.result()[0]["error"]["class"] == "user"
    reference = broker.task(3, spec={"what": "defer"})
    deferred = broker.next("DEFER").header
    assert deferred["tasks"] == [reference]
    assert deferred["retry_after_ms"] == 500
    broker.task(4, kind="other")
    assert broker.result()[0]["error"]["code"] == "UNKNOWN_KIND"


def stoppable(task):
    while True:
        task.report(done=1)
        try:
            task.check()
        except Stopped as stopped:
            stopped.partial = {"half": True}
            raise
        time.sleep(0.001)


def test_a_cancel_ends_a_task_with_what_it_has(started):
    broker = started(stoppable)
    broker.welcome()
    reference = broker.task(0)
    assert broker.next("PROGRESS").header["task"] == reference["task"]
    broker.send("CANCEL", {"tasks": [{"task": reference["task"], "attempt": 1}], "reason": "asked"})
    result, body = broker.result()
    assert result["outcome"] == "cancelled"
    assert body == {"half": True}


def test_a_dropped_attempt_sends_nothing(started):
    broker = started(stoppable)
    broker.welcome()
    reference = broker.task(0)
    broker.next("PROGRESS")
    broker.send("BEAT_ACK", {"epoch": 1, "drop": [reference]})
    # The worker is free again, and the next result is the next task's.
    while broker.next("BEAT").header["held"]:
        pass
    broker.task(1)
    broker.send("PREEMPT", {"tasks": [{"task": f"{JOB}/1", "attempt": 1}], "reason": "room"})
    result, _ = broker.result()
    assert (result["task"], result["outcome"]) == (f"{JOB}/1", "preempted")


def test_after_the_brokers_death_the_worker_says_what_it_holds_and_sends_again(started):
    gate = threading.Event()

    def wait(task):
        if task.envelope["task"].endswith("/0"):
            assert gate.wait(DEADLINE_S)
        return {"n": task.envelope["task"][-1]}

    broker = started(wait, threads=2)
    broker.welcome()
    running = broker.task(0)
    finished = broker.task(1)
    broker.next("RESULT")  # taken, but not acknowledged
    broker.rebind()
    broker.next("BEAT")
    broker.send("ERROR", {"error": {"code": "UNKNOWN_SESSION", "class": "retryable", "message": "say HELLO"}})
    hello = broker.welcome("s2")
    held = {entry["task"]: entry for entry in hello.header["holding"]}
    assert set(held) == {running["task"], finished["task"]}
    assert held[finished["task"]]["finished"]
    result, _ = broker.result()
    assert result["lease"] == finished["lease"]
    gate.set()
    assert broker.result()[0]["lease"] == running["lease"]


def test_garbage_from_the_broker_costs_nothing(started):
    broker = started(lambda _: {})
    broker.welcome()
    broker.router.send_multipart([broker.peer, b"nonsense"])
    broker.send("NOVELTY", {})
    broker.send("TASK", {"tasks": [{"task": 7}]})
    broker.send("CANCEL", {"tasks": 7})
    broker.next("LOG")
    broker.task(0)
    assert broker.result()[0]["outcome"] == "ok"
