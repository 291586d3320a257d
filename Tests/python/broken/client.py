#!/usr/bin/env python3
"""A client that breaks one rule of the protocol on purpose, named by its argument: so that the kit is seen to find it."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "clients" / "python" / "src"))

from loraq import Client, LoraqError
from loraq import client as library
from loraq.wire import Message

fault = sys.argv[1]
library._RESEND_AFTER_S = 0.5


class Broken(Client):
    def request(self, verb, header=None, bodies=(), timeout=None):
        header = dict(header or {})
        if fault == "wrong-type" and verb == "SUBMIT":
            header["job"] = dict(header["job"], priority="high")
        if fault == "one-page" and verb == "FETCH" and header.get("after"):
            return Message("OK", {"count": 0, "next": header["after"], "complete": True})
        if fault == "own-cursors" and verb == "FETCH" and header.get("after"):
            header["after"] = "7"
        if fault == "same-request-id":
            library.secrets.token_hex = lambda size: "always"
        if fault == "never-again" and verb == "SUBMIT":
            library._RESEND_AFTER_S = 1e9
        if fault == "new-request-id" and verb == "SUBMIT":
            library._RESEND_AFTER_S = 1e9
            for _ in range(2):
                try:
                    return super().request(verb, header, bodies, 1.0)
                except library.BrokerUnavailable:
                    continue
        return super().request(verb, header, bodies, timeout)


def main():
    lines = [{"custom_id": f"line-{number}", "text": "x"} for number in range(3)]
    with Broken(timeout=3) as client:
        id = "01931f0a-5c00-4abc-8def-0123456789ab" if fault == "uuid-4" else None
        job = client.batch(lines, kind="count", id=id)
        client.wait(job)
        for line in client.results(job):
            print(line["custom_id"] if fault != "prints-nothing" else "")


if __name__ == "__main__":
    try:
        main()
    except (LoraqError, library.BrokerUnavailable):
        sys.exit(0 if fault == "always-content" else 1)
    sys.exit(2 if fault == "never-content" else 0)
