"""The worker side of LQP/1, for plugins in Python.

    worker = Worker(version="1.0")

    @worker.kind("wordcount", resource_class="slot", threads=4)
    def count(task: Task) -> dict:
        return {"words": len(task.request["text"].split())}

    worker.run()

The thread that calls `run` owns the sockets and sends the heartbeats; tasks run on threads of their own.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import queue
import secrets
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import zmq

from .task import PutBack, Stopped, Task, TaskError
from .wire import BODY_BYTES, Header, Message, ProtocolError

__all__ = ["PutBack", "Stopped", "Task", "TaskError", "Worker"]

_MAXIMUM_HELD = 256
_SPOOL_RESULTS = 192
_RESULTS_PER_MESSAGE = 64
_RESEND_S = 10.0
_PROGRESS_S = 0.1


_STOP_RANK = {None: 0, "preempted": 1, "cancelled": 2, "dropped": 3}

Function = Callable[[Task], Header]


@dataclass
class _Kind:
    function: Function
    resource_class: str


@dataclass
class _Lane:
    """A resource class: its threads and what waits for them."""

    threads: int
    capacity: int
    tasks: queue.SimpleQueue[Task | None] = field(default_factory=queue.SimpleQueue)


@dataclass
class _Spooled:
    result: Header
    body: bytes | None
    resource_class: str
    progress: int
    sent_at: float | None = None


class Worker:
    """Keeps up the session with the broker and calls the plugin's functions, one thread per running task."""

    def __init__(self, *, version: str, numerics: str = "python", environment: Mapping[str, str] | None = None) -> None:
        env = os.environ if environment is None else environment
        missing = [name for name in ("LORAQ_DISPATCH", "LORAQ_RESULTS", "LORAQ_INSTANCE", "LORAQ_PLUGIN") if not env.get(name)]
        if missing:
            raise SystemExit(f"{', '.join(missing)}: not set. A worker is started by loraqd; docs/protocol.md lists the variables.")
        self.version = version
        self.numerics = numerics
        self.dispatch_endpoint = env["LORAQ_DISPATCH"]
        self.results_endpoint = env["LORAQ_RESULTS"]
        self.instance = env["LORAQ_INSTANCE"]
        self.plugin = env["LORAQ_PLUGIN"]
        self.grace_s = float(env.get("LORAQ_BROKER_GRACE_MS") or 600_000) / 1000
        self._kinds: dict[str, _Kind] = {}
        self._lanes: dict[str, _Lane] = {}
        self._letters: collections.deque[tuple[str, Task | None, Any]] = collections.deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._reset_session()
        self._active: dict[tuple[str, int], Task] = {}
        self._spool: dict[tuple[str, int], _Spooled] = {}
        self._draining = False
        self._progress: dict[tuple[str, int], tuple[Task, Header]] = {}
        self._next_progress = 0.0
        self._last_heard = self._last_finish = time.monotonic()
        self._heartbeat_s, self._lease_s = 1.0, 15.0
        self._hello_wait_s = 1.0

    def kind(
        self, name: str, *, resource_class: str = "slot", threads: int = 1, prefetch: int | None = None
    ) -> Callable[[Function], Function]:
        """Registers a function for a kind. `threads` tasks of its resource class run at once; `prefetch` more wait here."""

        def register(function: Function) -> Function:
            self._kinds[name] = _Kind(function, resource_class)
            ahead = threads if prefetch is None else prefetch
            self._lanes.setdefault(resource_class, _Lane(threads, min(threads + ahead, _MAXIMUM_HELD)))
            return function

        return register

    # -- From any thread

    def stop(self) -> None:
        """Takes nothing new, asks what runs to give way, and ends `run` when all results are taken."""
        self._post("stop", None, None)

    def _post(self, what: str, task: Task | None, value: Any) -> None:
        self._letters.append((what, task, value))
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"x")

    # -- Threads that run tasks

    def _work(self, lane: _Lane) -> None:
        while (task := lane.tasks.get()) is not None:
            self._run_task(task)

    def _run_task(self, task: Task) -> None:
        error: Header | None = None
        body: Any = None
        outcome = "ok"
        try:
            task.check()
            body = self._kinds[task.kind].function(task)
            if task.line is not None and isinstance(body, dict) and "custom_id" not in body:
                # A line of output must say which line of input it answers.
                body = {"id": task.id, "custom_id": task.custom_id} | body
        except Stopped as stopped:
            outcome, body = stopped.reason, stopped.partial
        except PutBack as back:
            self._post("defer", task, (back.reason, int(back.retry_after * 1000)))
            return
        except TaskError as failure:
            outcome = "error"
            error = {"code": failure.code, "class": failure.error_class, "message": failure.message}
            if failure.hint:
                error["hint"] = failure.hint
            body = self._error_line(task, failure.code, failure.message, failure.param)
        except Exception as failure:
            outcome = "error"
            traceback.print_exc()
            message = f"{type(failure).__name__}: {failure}"
            error = {"code": "INTERNAL", "class": "retryable", "message": message[:2000]}
            body = self._error_line(task, "INTERNAL", message[:2000], None)
        encoded = None
        if body is not None:
            try:
                encoded = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
                if len(encoded) >= BODY_BYTES:  # the broker adds a line feed to what it keeps
                    raise ValueError(f"it has {len(encoded)} bytes, at most {BODY_BYTES - 1} fit")
            except (TypeError, ValueError) as failure:
                outcome, encoded = "error", None
                error = {"code": "INTERNAL", "class": "user", "message": f"the result cannot be sent as JSON: {failure}"}
        result = task._reference() | {"outcome": outcome}
        if error is not None:
            result["error"] = error
        elif outcome == "ok":
            result |= {
                key: value
                for key, value in (("usage", task.usage), ("metrics", task.metrics), ("artifacts", task.artifacts))
                if value
            }
        self._post("ended", task, (result, encoded))

    @staticmethod
    def _error_line(task: Task, code: str, message: str, param: str | None) -> Header | None:
        if task.line is None:
            return None
        error = {"code": code, "message": message, "line": task.envelope.get("line"), "param": param}
        return {
            "id": task.id,
            "custom_id": task.custom_id,
            "response": None,
            "error": {key: value for key, value in error.items() if value is not None},
        }

    # -- The thread that owns the sockets

    def run(self) -> None:
        """Works until the broker, SIGTERM or `stop` drains the worker. A broker that goes away is waited for."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self.stop())
        threads = []
        for lane in self._lanes.values():
            for _ in range(lane.threads):
                threads.append(threading.Thread(target=self._work, args=(lane,), daemon=True))
                threads[-1].start()
        context = zmq.Context()
        dispatch, results = context.socket(zmq.DEALER), context.socket(zmq.PUSH)
        for socket, endpoint in ((dispatch, self.dispatch_endpoint), (results, self.results_endpoint)):
            socket.setsockopt(zmq.LINGER, 1000)
            socket.setsockopt(zmq.IMMEDIATE, 1)
            socket.setsockopt(zmq.RECONNECT_IVL, 50)
            socket.setsockopt(zmq.RECONNECT_IVL_MAX, 250)
            socket.connect(endpoint)
        try:
            self._loop(dispatch, results)
        finally:
            dispatch.close()
            results.close()
            context.term()
        for lane in self._lanes.values():
            for _ in range(lane.threads):
                lane.tasks.put(None)

    def _loop(self, dispatch: zmq.Socket[bytes], results: zmq.Socket[bytes]) -> None:
        poller = zmq.Poller()
        poller.register(dispatch, zmq.POLLIN)
        poller.register(self._wake_read, zmq.POLLIN)
        while True:
            with contextlib.suppress(BlockingIOError):
                while os.read(self._wake_read, 4096):
                    pass
            while self._letters:
                self._open(*self._letters.popleft())
            for _ in range(256):
                try:
                    frames = dispatch.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                self._receive(frames)
            is_over = self._tick()
            self._flush(dispatch, self._out)
            self._announce_credit()
            self._flush(dispatch, self._out)
            self._send_results(results)
            self._flush(results, self._ephemeral)
            if is_over:
                return
            poller.modify(dispatch, zmq.POLLIN | (zmq.POLLOUT if self._out else 0))
            wait = (self._next_hello if self._session is None else self._next_beat) - time.monotonic()
            if self._progress:
                wait = min(wait, self._next_progress - time.monotonic())
            poller.poll(max(1, int(wait * 1000) + 1))

    @staticmethod
    def _flush(socket: zmq.Socket[bytes], waiting: collections.deque[Message]) -> None:
        while waiting:
            try:
                socket.send_multipart(waiting[0].frames(), zmq.NOBLOCK)
            except zmq.Again:
                return
            except ProtocolError:
                traceback.print_exc()
            waiting.popleft()

    def _reset_session(self) -> None:
        self._session: str | None = None
        self._hello_id: str | None = None
        self._next_hello = 0.0
        self._next_beat = 0.0
        self._sequence = 0
        self._sent: collections.Counter[str] = collections.Counter()
        self._announced: dict[str, int] = {}
        self._out: collections.deque[Message] = collections.deque()
        self._ephemeral: collections.deque[Message] = collections.deque(maxlen=4096)

    def _tick(self) -> bool:
        """Does what is due; whether the worker is done."""
        now = time.monotonic()
        if self._session is not None and now - self._last_heard > self._lease_s:
            self._reset_session()
        if self._session is None:
            if now >= self._next_hello:
                self._say_hello(now)
        elif now >= self._next_beat:
            self._beat(now)
        idle = not self._active
        if self._draining and idle and not self._spool and self._session is not None:
            self._out.append(Message("BYE", {"session": self._session}))
            return True
        gone_for = now - max(self._last_heard, self._last_finish)
        return idle and gone_for > (min(self._grace_s, self._lease_s) if self._draining else self._grace_s)

    @property
    def _grace_s(self) -> float:
        return self.grace_s

    def _say_hello(self, now: float) -> None:
        wait = self._hello_wait_s
        self._hello_wait_s = min(8.0, wait * 2)
        self._reset_session()
        self._next_hello = now + wait
        self._hello_id = secrets.token_hex(8)
        holding = [task._reference() | {"class": task.envelope["class"]} for task in self._active.values()]
        for entry in self._spool.values():
            reference = {key: entry.result[key] for key in ("task", "attempt", "lease")}
            holding.append(reference | {"finished": True, "class": entry.resource_class})
        for entry in holding:
            self._sent[entry["class"]] += 1
        header = {
            "request_id": self._hello_id,
            "instance": self.instance,
            "plugin": self.plugin,
            "plugin_version": self.version,
            "pid": os.getpid(),
            "kinds": list(self._kinds),
            "numerics": self.numerics,
            "holding": holding,
        }
        if (ticks := _start_ticks()) is not None:
            header["start_ticks"] = ticks
        self._out.append(Message("HELLO", header))

    def _beat(self, now: float) -> None:
        self._next_beat = now + self._heartbeat_s
        held = [task._reference() | {"progress": task._counter} for task in self._active.values()]
        for entry in self._spool.values():
            held.append({key: entry.result[key] for key in ("task", "attempt", "lease")} | {"progress": entry.progress})
            if entry.sent_at is not None and now - entry.sent_at > _RESEND_S:
                entry.sent_at = None
        header = {"session": self._session, "held": held, "rss_bytes": _memory("VmRSS:"), "peak_bytes": _memory("VmHWM:")}
        self._out.append(Message("BEAT", header))
        self._announced = {}  # credit is cumulative: saying it again mends a lost one

    def _announce_credit(self) -> None:
        if self._session is None or self._draining:
            return
        total = len(self._active) + len(self._spool)
        room = max(0, _MAXIMUM_HELD - total) if len(self._spool) < _SPOOL_RESULTS else 0
        busy = collections.Counter(task.envelope["class"] for task in self._active.values())
        classes = {}
        for name, lane in self._lanes.items():
            free = min(room, max(0, lane.capacity - busy[name]))
            # Never taken back: what was promised may be on its way.
            classes[name] = max(self._sent[name] + free, self._announced.get(name, 0))
        if classes != self._announced:
            self._announced = classes
            self._out.append(Message("CREDIT", {"session": self._session, "classes": classes}))

    # -- From the broker

    def _receive(self, frames: list[bytes]) -> None:
        try:
            message = Message.parse(frames)
            self._handle(message)
        except (ProtocolError, KeyError, TypeError, IndexError) as error:
            # One bad message from the broker must not cost the work in hand.
            self._log("error", f"a message from the broker could not be read: {type(error).__name__}: {error}", None)

    def _handle(self, message: Message) -> None:
        header = message.header
        if message.verb == "WELCOME":
            self._welcome(header)
            return
        if message.verb == "ERROR":
            error = header.get("error") or {}
            if error.get("code") == "UNKNOWN_SESSION":
                self._last_heard = time.monotonic()
                self._hello_wait_s = 1.0
                self._reset_session()
            elif header.get("request_id") == self._hello_id and error.get("class") in ("user", "auth"):
                raise SystemExit(f"the broker refuses this worker: {error.get('code')}: {error.get('message')}")
            return
        if self._session is None:
            return
        self._last_heard = time.monotonic()
        if message.verb == "TASK" and header.get("session", self._session) == self._session:
            self._take(message)
        elif message.verb == "BEAT_ACK":
            for reference in header["drop"]:
                self._drop(reference)
        elif message.verb in ("PREEMPT", "CANCEL"):
            reason = "preempted" if message.verb == "PREEMPT" else "cancelled"
            for name in header["tasks"]:
                self._request_stop((name["task"], name["attempt"]), reason)
        elif message.verb == "RESULT_ACK":
            for item in header["results"]:
                self._spool.pop((item["task"], item["attempt"]), None)
        elif message.verb == "DRAIN":
            self._draining = True

    def _welcome(self, header: Header) -> None:
        if header.get("request_id", self._hello_id) != self._hello_id:
            return
        self._session = header["session"]
        self._heartbeat_s = max(0.01, header["heartbeat_ms"] / 1000)
        self._lease_s = max(header["lease_ms"] / 1000, 2 * self._heartbeat_s)
        self._last_heard = time.monotonic()
        self._next_beat = self._last_heard + self._heartbeat_s
        self._hello_wait_s = 1.0
        for reference in header["drop"]:
            self._drop(reference)
        for entry in self._spool.values():
            entry.sent_at = None

    def _take(self, message: Message) -> None:
        for envelope in message.header["tasks"]:
            index = envelope.get("body")
            task = Task(envelope, None if index is None else message.bodies[index][1], self)
            name = task._name()
            if name in self._active or name in self._spool:
                continue
            kind = self._kinds.get(envelope["kind"])
            self._sent[envelope["class"]] += 1
            self._active[name] = task
            if kind is None:
                error = {"code": "UNKNOWN_KIND", "class": "user", "message": f"this worker has no kind `{envelope['kind']}`"}
                self._post("ended", task, (task._reference() | {"outcome": "error", "error": error}, None))
            else:
                self._lanes[kind.resource_class].tasks.put(task)

    def _request_stop(self, name: tuple[str, int], reason: str) -> None:
        task = self._active.get(name)
        if task is not None and _STOP_RANK[reason] > _STOP_RANK[task._stop]:
            task._stop = reason

    def _drop(self, reference: Header) -> None:
        name = (reference["task"], reference["attempt"])
        task = self._active.get(name)
        if task is not None and task.envelope["lease"] == reference["lease"]:
            self._request_stop(name, "dropped")
        spooled = self._spool.get(name)
        if spooled is not None and spooled.result["lease"] == reference["lease"]:
            del self._spool[name]

    # -- From the plugin

    def _open(self, what: str, task: Task | None, value: Any) -> None:
        if what == "stop":
            self._draining = True
            for name in self._active:
                self._request_stop(name, "preempted")
            return
        if task is None:
            return
        if what == "log":
            self._log(value["level"], value["message"], task.id)
            return
        name = task._name()
        if self._active.get(name) is not task:
            return
        if what == "progress":
            self._progress[name] = (task, value)
        elif what == "chunk":
            if self._session is not None:
                fields = {"session": self._session, "task": task.id, "attempt": task.envelope["attempt"]}
                self._ephemeral.append(Message("CHUNK", fields | value))
        elif what in ("ended", "defer"):
            del self._active[name]
            self._progress.pop(name, None)
            self._last_finish = time.monotonic()
            if task._stop == "dropped":
                return
            if what == "ended":
                result, body = value
                self._spool[name] = _Spooled(result, body, task.envelope["class"], task._counter)
            elif self._session is not None:
                reason, retry_after_ms = value
                fields = {"session": self._session, "tasks": [task._reference()]}
                self._out.append(Message("DEFER", fields | {"reason": reason, "retry_after_ms": retry_after_ms}))

    def _log(self, level: str, message: str, task: str | None) -> None:
        if self._session is None:
            return
        self._sequence += 1
        header = {"session": self._session, "seq": self._sequence, "level": level, "message": message}
        self._ephemeral.append(Message("LOG", header | ({"task": task} if task else {})))

    # -- Results

    def _send_results(self, socket: zmq.Socket[bytes]) -> None:
        if self._session is None:
            return
        unsent = [entry for entry in self._spool.values() if entry.sent_at is None]
        while unsent:
            chosen: list[_Spooled] = []
            size = 0
            while unsent and len(chosen) < _RESULTS_PER_MESSAGE:
                size += len(unsent[0].body or b"")
                if chosen and size > BODY_BYTES:
                    break
                chosen.append(unsent.pop(0))
            self._sequence += 1
            results: list[Header] = []
            bodies: list[tuple[str, bytes]] = []
            for entry in chosen:
                result = dict(entry.result)
                if entry.body is not None:
                    result["body"] = len(bodies)
                    bodies.append(("result", entry.body))
                results.append(result)
            message = Message("RESULT", {"session": self._session, "seq": self._sequence, "results": results}, bodies)
            try:
                socket.send_multipart(message.frames(), zmq.NOBLOCK)
            except zmq.Again:
                return
            for entry in chosen:
                entry.sent_at = time.monotonic()
        if self._progress and time.monotonic() >= self._next_progress:
            self._next_progress = time.monotonic() + _PROGRESS_S
            for task, fields in self._progress.values():
                self._sequence += 1
                header = {"session": self._session, "seq": self._sequence} | task._reference() | fields
                self._ephemeral.append(Message("PROGRESS", header))
            self._progress = {}


def _memory(field_name: str) -> int:
    """A line of /proc/self/status, in bytes; 0 where there is none."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field_name):
                return int(line.split()[1]) * 1024
    return 0


def _start_ticks() -> int | None:
    """When this process started, in clock ticks since boot: with the pid it names the process for good."""
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/self/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[19])
    return None
