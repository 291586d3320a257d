"""File descriptors used up: connections are refused, work goes on, and when there are some again everybody may come."""

import contextlib
import os
import pathlib
import socket

import harness
from harness import DEADLINE_S, until
from test_queue import words

LIMIT = 256


def test_a_flood_of_connections_uses_up_no_descriptor_that_work_needs():
    """KINDS 24: libzmq aborts where accept meets EMFILE; here it never does."""
    broker = harness.Broker([harness.EXAMPLES])
    broker.prefix = ["prlimit", f"--nofile={LIMIT}:{LIMIT}"]
    try:
        broker.start()
        client = broker.client()
        until(lambda: client.workers()["workers"][0]["state"] == "ready", "the worker is there")
        assert broker.process is not None
        opened = pathlib.Path(f"/proc/{broker.process.pid}/fd")
        with contextlib.ExitStack() as stack:
            for name in ("control", "dispatch", "results", "events"):
                for _ in range(LIMIT):
                    peer = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                    peer.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        peer.connect(str(broker.home / "run" / name))
            until(lambda: "connections refused" in broker.log(), "the broker says so")
            # Files that jobs need can still be opened; who was connected before is served.
            jobs = [client.batch(words(50), kind="wordcount") for _ in range(5)]
            for job in jobs:
                assert client.wait(job, DEADLINE_S)["state"] == "succeeded"
                assert client.verify(job)["verified"]
            assert broker.process.poll() is None
            assert len(os.listdir(opened)) < LIMIT
        # They are gone: a new client is let in.
        assert broker.client().ping()["epoch"] == client.ping()["epoch"]
    finally:
        broker.close()
