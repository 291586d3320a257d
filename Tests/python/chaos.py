"""SIGKILL at random to broker and workers under load, then the proof that every acknowledged line was answered exactly once.

    make chaos KILLS=500 [SEED=n]

The broker dies in two ways: from outside, at a moment drawn at random, and by itself, at the n-th visit to any of its numbered
places (Sources/LinuxSystem/Failpoint.swift), n drawn at each start. The worker is `examples/python/wordcount`, killed from outside.
The seed fixes what is drawn; how the processes interleave is the machine's. `dead` lines are lines whose worker was killed three
times while they ran alone: they have their one answer too, an error line, and are counted apart.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import pathlib
import random
import secrets
import signal
import sys
import time
from typing import Any

# The client of this checkout, whatever is installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "clients" / "python" / "src"))

import harness
from harness import Broker, until
from loraq import Client

#: Batches that may be unfinished at a time: the load goes on, and the campaign ends.
OPEN_BATCHES = 6
#: The longest wait before a kill, in seconds. It only chooses the moment; nothing is concluded from it.
LONGEST_PAUSE_S = 0.25
#: The latest visit to a numbered place at which a broker dies by itself: about what it makes in a second under this load.
MOST_VISITS = 400


class Campaign:
    """Kills while work is submitted and done; `check` proves the end."""

    def __init__(self, broker: Broker, seed: int) -> None:
        self.broker = broker
        self.random = random.Random(seed)
        self.client = broker.client(timeout=120)
        #: Acknowledged batches: id → number of lines.
        self.accepted: dict[str, int] = {}
        self.open: set[str] = set()
        self.starts = 0
        self.workers = 0
        self.marks = pathlib.Path(broker.home) / "marks"
        self.marks.mkdir()

    @property
    def kills(self) -> int:
        return max(0, self.starts - 1) + self.workers

    def _arm(self) -> None:
        """Before each start: at which visit to any of its places the broker is to die."""
        self.starts += 1
        visit = self.random.choice([self.random.randint(1, 30), self.random.randint(1, MOST_VISITS)])
        self.broker.environment["LORAQ_FAILPOINT"] = f"0:{visit}:{self.marks / str(self.starts)}"

    def run(self, kills: int, every: int = 50) -> dict[str, Any]:
        told = every
        with self.broker.kept_running(self._arm):
            while self.kills < kills:
                self._submit()
                time.sleep(self.random.uniform(0, LONGEST_PAUSE_S))
                self._kill()
                if self.kills >= told:
                    told += every
                    print(f"{self.kills} kills, {len(self.accepted)} batches accepted, {len(self.open)} open", flush=True)
        # Unarmed from here on: what was accepted must be there, and end.
        self.broker.environment.pop("LORAQ_FAILPOINT")
        if self.broker.process is None or self.broker.process.poll() is not None:
            self.broker.start()
        return self.check()

    def _submit(self) -> None:
        self.open = {job for job in self.open if self.client.job(job)["state"] not in FINAL}
        if len(self.open) >= OPEN_BATCHES:
            return
        count = self.random.randint(1, 400)
        lines = [{"custom_id": f"c{number}", "text": "a b c"} for number in range(count)]
        job = self.client.batch(lines, kind="wordcount")
        self.accepted[job] = count
        self.open.add(job)

    def _kill(self) -> None:
        if self.random.random() < 0.4:
            process = self.broker.process
            if process is not None:
                process.kill()
                until(lambda: self.broker.process is not process, "the broker is started again")
            return
        pid = live_worker(self.client)
        # None is ready, or it has ended by itself since: then nothing is killed.
        with contextlib.suppress(ProcessLookupError):
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                self.workers += 1

    def check(self) -> dict[str, Any]:
        """Waits for every accepted batch and proves it twice: by the broker's `VERIFY`, and by reading all its lines."""
        sums: collections.Counter[str] = collections.Counter()
        for job, count in self.accepted.items():
            self.client.wait(job, 600)
            proof = self.client.verify(job)
            assert proof["verified"] and proof["lines"] == count, (job, count, proof)
            answers = collections.Counter(line["custom_id"] for line in self.client.results(job, stream="all"))
            assert answers == collections.Counter(f"c{number}" for number in range(count)), (job, answers.most_common(3))
            sums.update(proof["answers"])
        assert not sums["failed"] and not sums["cancelled"] and not sums["open"], sums
        result = {"batches": len(self.accepted), "lines": sum(self.accepted.values()), "dead": sums["dead"]}
        result |= {"broker": self.starts - 1, "of them at numbered places": len(list(self.marks.iterdir())), "worker": self.workers}
        return result


FINAL = ("succeeded", "failed", "cancelled", "skipped", "dependency_failed")


def live_worker(client: Client) -> int | None:
    return next((worker.get("pid") for worker in client.workers()["workers"] if worker["state"] == "ready"), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 31))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    begin = time.monotonic()
    broker = harness.Broker([harness.EXAMPLES])
    try:
        campaign = Campaign(broker, arguments.seed)
        result = campaign.run(arguments.kills)
        print(f"every line answered exactly once: {result}, {time.monotonic() - begin:.0f} s", flush=True)
    finally:
        broker.close()


if __name__ == "__main__":
    main()
