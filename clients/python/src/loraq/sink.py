"""Results pushed by the broker to a PULL socket that the client binds, with every gap filled."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import zmq

from .wire import BrokerUnavailable, LoraqError, Message, ProtocolError

if TYPE_CHECKING:
    from .client import Client

_IDLE_MS = 500
_FINAL = frozenset({"succeeded", "failed", "cancelled", "skipped", "dependency_failed"})


class _Sink:
    """One attachment after another: what a sink missed is fetched, then a new one goes on behind it."""

    def __init__(self, client: Client, selector: str, socket: zmq.Socket[bytes], endpoint: str) -> None:
        self.client = client
        self.selector = selector
        self.socket = socket
        self.endpoint = endpoint
        self.sink: str | None = None
        self.epoch: int | None = None
        self.sequence = 0
        #: Of each job that was heard of: where to go on.
        self.cursors: dict[str, str | None] = {}
        self.ended: set[str] = set()

    def attach(self) -> None:
        after = {job: cursor for job, cursor in self.cursors.items() if cursor is not None}
        self.epoch = self.client.ping()["epoch"]
        header = {"endpoint": self.endpoint, "selector": self.selector, "after": after or None}
        self.sink = self.client.request("ATTACH", header).header["sink"]
        self.sequence = 0

    def detach(self) -> None:
        if self.sink is not None:
            with contextlib.suppress(LoraqError, BrokerUnavailable):
                self.client.request("DETACH", {"sink": self.sink}, timeout=2.0)
            self.sink = None

    def catch_up(self, job: str) -> Iterator[tuple[str, Any]]:
        """Everything after the job's cursor that there is now."""
        while True:
            lines, cursor, complete = self.client.fetch(job, stream="all", after=self.cursors.get(job))
            self.cursors[job] = cursor
            for line in lines:
                yield job, line
            if complete:
                self.ended.add(job)
            if complete or not lines:
                return

    def look_for_jobs(self) -> None:
        for status in self.client.status(self.selector):
            self.cursors.setdefault(status["job"], None)

    def again(self) -> Iterator[tuple[str, Any]]:
        """Fills all gaps and attaches anew."""
        self.detach()
        self.look_for_jobs()
        for job in list(self.cursors):
            if job not in self.ended:
                yield from self.catch_up(job)
        self.attach()

    def receive(self, frames: list[bytes]) -> Iterator[tuple[str, Any]]:
        try:
            message = Message.parse(frames)
        except ProtocolError:
            return
        header = message.header
        if header.get("sink") != self.sink:
            return  # of an attachment that was given up
        if header["sequence"] != self.sequence + 1:
            yield from self.again()
            return
        self.sequence += 1
        job = header["job"]
        if message.verb == "LINE":
            self.cursors[job] = header["cursor"]
            yield job, json.loads(message.body("line") or b"null")
        elif message.verb == "END":
            yield from self.catch_up(job)
            self.ended.add(job)

    def is_over(self) -> bool:
        return bool(self.cursors) and self.ended.issuperset(self.cursors)


def stream(client: Client, selector: str, endpoint: str | None, timeout: float | None) -> Iterator[tuple[str, Any]]:
    """See `Client.stream`."""
    folder = None
    if endpoint is None:
        folder = tempfile.mkdtemp(prefix="loraq-sink-")
        endpoint = f"ipc://{folder}/sink"
    socket = client.context.socket(zmq.PULL)
    socket.setsockopt(zmq.LINGER, 0)
    deadline = time.monotonic() + timeout if timeout is not None else None
    sink = _Sink(client, selector, socket, endpoint)
    try:
        socket.bind(endpoint)
        sink.endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        yield from sink.again()
        while not sink.is_over():
            if socket.poll(_IDLE_MS):
                yield from sink.receive(socket.recv_multipart())
                continue
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"`{selector}` has not ended within {timeout} seconds")
            # Silence: the broker may have been started anew, and then it knows of no sink.
            with contextlib.suppress(BrokerUnavailable):
                if client.ping(timeout=2.0)["epoch"] != sink.epoch:
                    yield from sink.again()
                else:
                    # A job may have ended before the sink was there, or its END was the one dropped.
                    for status in client.status(selector):
                        if status["state"] in _FINAL and status["job"] not in sink.ended:
                            yield from sink.catch_up(status["job"])
    finally:
        sink.detach()
        socket.close(linger=0)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
