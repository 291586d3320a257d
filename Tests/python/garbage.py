"""Garbage on every socket while work goes on: no job is disturbed, the broker's memory is flat.

    make garbage FRAMES=1000000 [SEED=n]

Four senders at once: mutated messages to control, dispatch and results, mutated subscriptions to events; and bytes that are no
ZeroMQ at all to each of them. Meanwhile batches run, and each must be answered line by line, by the worker of the start.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import random
import secrets
import socket as sockets
import sys
import threading
import time
from typing import Any

# The client of this checkout, whatever is installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "clients" / "python" / "src"))

import harness
import zmq
from harness import DEADLINE_S, Broker
from test_wire import garbage

SOCKETS = {"control": zmq.DEALER, "dispatch": zmq.DEALER, "results": zmq.PUSH, "events": zmq.SUB}
#: Messages between two looks at what came back.
BURST = 200
#: What the resident memory may have grown by between the first tenth and the end: less than is needed to keep one frame in fifty.
GROWTH_MIB = 24


def resident_mib(pid: int) -> float:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


class Sender(threading.Thread):
    """Sends garbage to one socket until `frames` are sent, and reads whatever is answered."""

    def __init__(self, broker: Broker, name: str, frames: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.broker, self.name_of_socket, self.frames = broker, name, frames
        self.random = random.Random(f"{seed} {name}")
        self.sent = 0
        self.answers = 0

    def run(self) -> None:
        while self.sent < self.frames:
            # A new peer for each round: old ones vanish with what was not read.
            with zmq.Context() as context, context.socket(SOCKETS[self.name_of_socket]) as socket:
                socket.setsockopt(zmq.LINGER, 1000)
                socket.connect(self.broker.endpoint(self.name_of_socket))
                for _ in range(20):
                    self._burst(socket)
            self._no_zeromq()

    def _burst(self, socket: zmq.Socket[bytes]) -> None:
        for frames in garbage(self.random, BURST):
            if self.name_of_socket == "events":
                socket.setsockopt(zmq.SUBSCRIBE, frames[-1][:200])
                self.sent += 1
                continue
            if not socket.poll(int(DEADLINE_S * 1000), zmq.POLLOUT):
                raise AssertionError(f"{self.name_of_socket} takes nothing any more")
            socket.send_multipart(frames)
            self.sent += len(frames)
        if self.name_of_socket in ("control", "dispatch"):
            while socket.poll(0):
                socket.recv_multipart()
                self.answers += 1

    def _no_zeromq(self) -> None:
        with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as raw, contextlib.suppress(OSError):
            raw.settimeout(DEADLINE_S)
            raw.connect(str(self.broker.home / "run" / self.name_of_socket))
            for _ in range(self.random.randrange(1, 20)):
                raw.sendall(self.random.randbytes(self.random.randrange(1, 2000)))


def campaign(broker: Broker, frames: int, seed: int) -> dict[str, Any]:
    client = broker.client(timeout=DEADLINE_S)
    assert broker.process is not None
    workers = {worker["instance"]: worker.get("pid") for worker in client.workers()["workers"]}
    senders = [Sender(broker, name, frames // len(SOCKETS), seed) for name in SOCKETS]
    for sender in senders:
        sender.start()
    jobs = []
    warm = None
    while any(sender.is_alive() for sender in senders) or len(jobs) < 3:
        lines = [{"custom_id": f"c{number}", "text": "a b c"} for number in range(100)]
        job = client.batch(lines, kind="wordcount")
        assert client.wait(job, DEADLINE_S)["state"] == "succeeded"
        proof = client.verify(job)
        assert proof["verified"] and proof["answers"]["done"] == 100, proof
        jobs.append(job)
        if warm is None and sum(sender.sent for sender in senders) >= frames / 10:
            warm = resident_mib(broker.process.pid)
    for sender in senders:
        sender.join()
        assert sender.sent >= sender.frames, f"{sender.name_of_socket} took {sender.sent} frames only"
    assert broker.process.poll() is None
    # The same processes as before, and each job by one attempt of each line.
    assert {worker["instance"]: worker.get("pid") for worker in client.workers()["workers"]} == workers
    assert not {"task.retry", "worker.lost", "task.failed"} & {event["type"] for event in client.events()}
    sent = sum(sender.sent for sender in senders)
    end = resident_mib(broker.process.pid)
    warm = end if warm is None else warm
    result = {"frames": sent, "jobs": len(jobs), "errors": sum(sender.answers for sender in senders)}
    assert end - warm < GROWTH_MIB, f"{warm:.0f} MiB after a tenth, {end:.0f} MiB in the end: {result}"
    return result | {"MiB after a tenth": round(warm), "MiB in the end": round(end)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 31))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    begin = time.monotonic()
    with harness.running(harness.EXAMPLES) as broker:
        print(f"undisturbed: {campaign(broker, arguments.frames, arguments.seed)}, {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
