"""What the end-to-end tests stand on: a real broker, a client that checks its traffic, a worker driven by hand."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import pathlib
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import zmq
from loraq import Client, Message

import schemas

ROOT = schemas.ROOT
BIN = pathlib.Path(os.environ.get("LORAQ_BIN") or ROOT / ".build" / "release").absolute()
EXAMPLES = ROOT / "examples" / "python"
#: How long anything may take that should take moments; only a broken build comes near it.
DEADLINE_S = 60.0

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Asks until `condition` gives something true, which is returned. For states that nothing announces."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"within {deadline_s} s: {what}")


class CheckedClient(Client):
    """A client all of whose requests and replies are checked against the schemas."""

    def request(self, verb: str, header: dict | None = None, bodies: Sequence = (), timeout: float | None = None) -> Message:
        fields = {key: value for key, value in (header or {}).items() if value is not None}
        schemas.check(schemas.request_schema(verb), fields)
        reply = super().request(verb, header, bodies, timeout)
        schemas.check(schemas.reply_schema(verb), reply.header)
        return reply


class NotReady(AssertionError):
    """A `loraqd` ended before it was ready."""


class Broker:
    """A real `loraqd` with a home of its own under a short path."""

    def __init__(
        self,
        workers: Sequence[pathlib.Path] = (),
        lease_ms: int = 3000,
        heartbeat_ms: int = 100,
        memory_mib: int | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="lq-", dir="/tmp"))
        #: Set for the next `start` and those after it, on top of the environment of the tests.
        self.environment: dict[str, str] = {}
        #: Words before the command: `prlimit …`, `nsenter …`.
        self.prefix: list[str] = []
        self.workers = list(workers)
        self.options = ["--lease-ms", str(lease_ms), "--heartbeat-ms", str(heartbeat_ms)]
        self.options += ["--memory", str(memory_mib)] if memory_mib else []
        self.options += arguments
        self.process: subprocess.Popen[str] | None = None
        self._clients: list[Client] = []

    def start(self) -> None:
        """Starts it, and returns once its sockets are bound."""
        command = [*self.prefix, str(BIN / "loraqd"), "--home", str(self.home), *self.options]
        command += [word for folder in self.workers for word in ("--workers", str(folder))] or ["--no-workers"]
        # Plugins in Python run under the interpreter of the tests.
        path = f"{pathlib.Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
        log = (self.home / "loraqd.log").open("a")
        environment = os.environ | {"PATH": path} | self.environment
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE_S)
        line = self.process.stdout.readline() if ready else "nothing"
        if line != "ready\n":
            raise NotReady(f"loraqd said {line!r}: {self.log()[-3000:]}")

    def kill(self) -> None:
        """SIGKILL: nothing is said, nothing is saved."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    def stop(self) -> None:
        """SIGTERM, and waits: workers are ended too."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(DEADLINE_S)

    @contextlib.contextmanager
    def kept_running(self, before: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Starts the broker, and starts it again whenever it has been killed, until the block ends; `before` each start."""
        ending = threading.Event()

        def keep() -> None:
            while True:
                before()
                with contextlib.suppress(NotReady):
                    self.start()
                assert self.process is not None
                self.process.wait()
                if ending.is_set() or self.process.returncode != -signal.SIGKILL:
                    return

        keeper = threading.Thread(target=keep, daemon=True)
        keeper.start()
        try:
            yield
        finally:
            ending.set()
            until(lambda: self.process is not None, "the broker was started")
            assert self.process is not None
            self.process.send_signal(signal.SIGTERM)
            keeper.join(DEADLINE_S)

    def client(self, timeout: float = 30.0) -> CheckedClient:
        self._clients.append(CheckedClient(self.home, timeout=timeout))
        return self._clients[-1]

    def log(self) -> str:
        path = self.home / "loraqd.log"
        return path.read_text() if path.exists() else ""

    def endpoint(self, name: str) -> str:
        return f"ipc://{self.home}/run/{name}"

    def close(self) -> None:
        for client in self._clients:
            client.close()
        # pytest shows this with a test that failed.
        print(f"exit status before the end: {self.process and self.process.poll()}; log:\n{self.log()[-4000:]}")
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)  # a second one: at once
                self.process.wait(10)
        self._end_workers()
        shutil.rmtree(self.home, ignore_errors=True)

    def _end_workers(self) -> None:
        """Ends workers that a killed broker left behind: processes whose environment names this home's sockets."""
        mark = self.endpoint("dispatch").encode()
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes():
                        os.kill(int(entry.name), signal.SIGKILL)


class FakeWorker:
    """The worker's side of the protocol, step by step; every message both ways is checked against the schemas."""

    def __init__(
        self,
        broker: Broker,
        kinds: Sequence[str] = ("echo", "long"),
        numerics: str = "none",
        instance: str | None = None,
        plugin: str = "fake",
    ) -> None:
        self.context = zmq.Context()
        self.dispatch = self.context.socket(zmq.DEALER)
        self.results = self.context.socket(zmq.PUSH)
        for socket, name in ((self.dispatch, "dispatch"), (self.results, "results")):
            socket.setsockopt(zmq.LINGER, 500)
            socket.connect(broker.endpoint(name))
        self.kinds = list(kinds)
        self.numerics = numerics
        self.plugin = plugin
        self.instance = instance or f"fake-{secrets.token_hex(3)}"
        self.session = ""
        self.sequence = 0
        self.held: dict[tuple[str, int], dict[str, Any]] = {}
        self.bodies: dict[tuple[str, int], bytes] = {}
        self.counter = 0
        self.waiting: list[Message] = []

    def send(self, verb: str, header: dict[str, Any], bodies: Sequence[tuple[str, bytes]] = (), socket: Any = None) -> None:
        schemas.check(schemas.worker_schema(verb), header)
        (socket or self.dispatch).send_multipart(Message(verb, header, list(bodies)).frames())

    def receive(self, *verbs: str, deadline_s: float = DEADLINE_S) -> Message:
        """The next message with one of these verbs; others wait their turn. Beats meanwhile, so as to keep its leases."""
        end = time.monotonic() + deadline_s
        next_beat = 0.0
        while time.monotonic() < end:
            for index, message in enumerate(self.waiting):
                if message.verb in verbs:
                    return self.waiting.pop(index)
            if self.session and time.monotonic() >= next_beat:
                self.beat()
                next_beat = time.monotonic() + 0.2
            if self.dispatch.poll(50):
                message = Message.parse(self.dispatch.recv_multipart())
                schemas.check(schemas.worker_schema(message.verb), message.header)
                self.waiting.append(message)
        seen = collections.Counter(message.verb for message in self.waiting)
        raise AssertionError(f"{verbs} did not come; waiting: {seen}")

    def hello(self, holding: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        header = {"instance": self.instance, "plugin": self.plugin, "plugin_version": "1", "pid": os.getpid(), "kinds": self.kinds}
        self.session = ""
        self.send("HELLO", header | {"numerics": self.numerics, "holding": list(holding)})
        welcome = self.receive("WELCOME").header
        self.session = welcome["session"]
        return welcome

    def credit(self, total: int, resource_class: str = "slot") -> None:
        self.send("CREDIT", {"session": self.session, "classes": {resource_class: total}})

    def beat(self) -> None:
        self.counter += 1
        held = [reference(task) | {"progress": self.counter} for task in self.held.values()]
        self.send("BEAT", {"session": self.session, "held": held, "rss_bytes": 1 << 20})

    def tasks(self, count: int) -> list[dict[str, Any]]:
        """Waits for `count` tasks and holds them."""
        got: list[dict[str, Any]] = []
        while len(got) < count:
            message = self.receive("TASK")
            for task in message.header["tasks"]:
                key = (task["task"], task["attempt"])
                self.held[key] = task
                if task.get("body") is not None:
                    self.bodies[key] = message.bodies[task["body"]][1]
                got.append(task)
        assert len(got) == count, f"more tasks than credit: {len(got)}"
        return got

    def sees_no_task(self, beats: int = 5) -> bool:
        """Whether several beats are answered without a task having come: the broker has had its turn to send one."""
        for _ in range(beats):
            self.beat()
            self.receive("BEAT_ACK")
        return not any(message.verb == "TASK" for message in self.waiting)

    def finish(self, task: dict[str, Any], body: dict[str, Any], **fields: Any) -> None:
        self.sequence += 1
        result = reference(task) | {"outcome": "ok", "body": 0} | fields
        header = {"session": self.session, "seq": self.sequence, "results": [result]}
        self.send("RESULT", header, [("result", json.dumps(body).encode())], self.results)

    def fail(self, task: dict[str, Any], error: dict[str, Any]) -> None:
        self.sequence += 1
        result = reference(task) | {"outcome": "error", "error": error}
        self.send("RESULT", {"session": self.session, "seq": self.sequence, "results": [result]}, socket=self.results)

    def acknowledged(self, task: dict[str, Any]) -> str:
        """Waits for the `RESULT_ACK` of a task and forgets it. Its status."""
        key = (task["task"], task["attempt"])
        while True:
            message = self.receive("RESULT_ACK")
            items = {(item["task"], item["attempt"]): item["status"] for item in message.header["results"]}
            for name in items:
                if name != key:
                    self.held.pop(name, None)
            if key in items:
                self.held.pop(key, None)
                return items[key]

    def close(self) -> None:
        self.dispatch.close()
        self.results.close()
        self.context.term()


def reference(task: dict[str, Any]) -> dict[str, Any]:
    return {key: task[key] for key in ("task", "attempt", "lease")}


def plugin_folder(parent: pathlib.Path, name: str, script: str, manifest: dict[str, Any]) -> pathlib.Path:
    """Writes a plugin of the test's own; the folder to give to `--workers`."""
    folder = parent / name
    folder.mkdir(parents=True)
    (folder / "worker.json").write_text(
        json.dumps({"name": name, "version": "1", "protocol": "LQP/1", "exec": ["./run"]} | manifest)
    )
    program = folder / "run"
    program.write_text(script)
    program.chmod(0o755)
    return parent


@contextlib.contextmanager
def running(*workers: pathlib.Path, **options: Any) -> Iterator[Broker]:
    broker = Broker(workers, **options)
    try:
        broker.start()
        yield broker
    finally:
        broker.close()
