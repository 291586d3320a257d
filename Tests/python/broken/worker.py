#!/usr/bin/env python3
"""A worker that breaks one rule of the protocol on purpose, named by its argument: so that the kit is seen to find it."""

import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "clients" / "python" / "src"))

from loraq import worker as library
from loraq.wire import Message, ProtocolError

fault = sys.argv[1]


class Broken(library.Worker):
    def _say_hello(self, now):
        super()._say_hello(now)
        hello = self._out[-1].header
        if fault == "another-name":
            hello["instance"] = "somebody"
        if fault == "hello-once":
            self._next_hello = now + 1e5
        if fault == "same-request-id":
            self._hello_id = hello["request_id"] = "always"
        if fault == "forgets-what-it-holds":
            hello["holding"] = []

    def _welcome(self, header):
        if fault == "takes-any-welcome":
            self._hello_id = header["request_id"]
            if header["session"] != "stale" and self._session is not None:
                return
        super()._welcome(header)
        if fault == "never-again" and self._spool:
            for entry in self._spool.values():
                entry.sent_at = 1e12

    def _receive(self, frames):
        if fault == "dies-of-junk":
            try:
                Message.parse(frames)
            except ProtocolError:
                os._exit(3)
        super()._receive(frames)

    def _handle(self, message):
        if fault == "takes-foreign-tasks" and message.verb == "TASK":
            message.header.pop("session", None)
        if fault == "never-forgets" and message.verb in ("RESULT_ACK", "BEAT_ACK"):
            return
        if fault == "cannot-be-stopped" and message.verb in ("CANCEL", "PREEMPT"):
            return
        if fault == "cannot-be-refused" and message.verb == "ERROR" and message.header["error"]["class"] == "user":
            return
        if fault == "leaves-at-once" and message.verb == "DRAIN":
            os._exit(0)
        super()._handle(message)

    def _beat(self, now):
        if fault == "no-beats":
            self._next_beat = now + 1e5
            return
        super()._beat(now)
        if fault == "holds-nothing":
            self._out[-1].header["held"] = []
        if fault == "no-memory":
            self._out[-1].header["rss_bytes"] = 0

    def _announce_credit(self):
        if fault == "credit-once" and self._sent:
            return
        super()._announce_credit()
        if fault == "credit-of-thousands":
            for message in self._out:
                if message.verb == "CREDIT":
                    message.header["classes"] = {"slot": 5000}

    def _send_results(self, socket):
        for entry in self._spool.values():
            if fault == "another-lease":
                entry.result["lease"] = "0" * 32
            if fault == "no-custom-id" and entry.body:
                entry.body = entry.body.replace(b'"custom_id"', b'"id2"')
            if fault == "line-break" and entry.body:
                entry.body = entry.body.replace(b"{", b"{\n", 1)
        if fault == "gaps-in-seq":
            self._sequence += 1
        super()._send_results(socket)

    def _tick(self):
        if super()._tick():
            if fault == "no-bye":
                self._out.clear()
            if fault == "bad-end":
                library.threading.Timer(0.5, lambda: os._exit(4)).start()
            return True
        return False


worker = Broken(version="1.0")
if fault == "retries-unknown-kinds":
    worker._kinds["no-such-kind"] = library._Kind(lambda task: 1 / 0, "slot")


@worker.kind("count", resource_class="slot", threads=2, prefetch=14)
def count(task):
    return {"words": len(task.request["text"].split())}


@worker.kind("sleep", resource_class="slot", threads=2, prefetch=14)
def sleep(task):
    while True:
        library.time.sleep(0.01)
        task.advance()
        task.check()


if __name__ == "__main__":
    if fault == "deaf-to-sigterm":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        library.signal.signal = lambda *_: None
    worker.run()
