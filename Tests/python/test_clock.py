"""The wall clock jumps, forwards and back, under the running broker: by a library before libc that adds what a file says."""

import pathlib
import shutil
import struct
import subprocess

import harness
import pytest
from harness import DEADLINE_S, FakeWorker, until
from test_queue import words

CLOCK = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *step_seconds;
__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("CLOCK_STEP_FILE"), O_RDONLY);
    step_seconds = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
}
int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (step_seconds && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += *step_seconds;
    return result;
}
int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""
DAY_S = 86_400


class SteppedClock:
    def __init__(self, folder: pathlib.Path) -> None:
        self.library, self.file, source = folder / "clock.so", folder / "step", folder / "clock.c"
        compiler = shutil.which("cc") or shutil.which("clang")
        assert compiler, "a C compiler comes with Swift"
        source.write_text(CLOCK)
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(self.library), str(source)], check=True)
        self.file.write_bytes(struct.pack("<q", 0))

    def set(self, seconds: int) -> None:
        with self.file.open("r+b") as out:
            out.write(struct.pack("<q", seconds))


@pytest.fixture
def clock(tmp_path):
    return SteppedClock(tmp_path)


@pytest.fixture
def stepped(clock, tmp_path):
    kinds = [{"name": name, "class": "slot"} for name in ("echo", "long")]
    folder = harness.plugin_folder(tmp_path / "plugins", "fake", "#!/bin/sh\n", {"kinds": kinds, "instances": 0})
    broker = harness.Broker([folder, harness.EXAMPLES])
    broker.environment = {"LD_PRELOAD": str(clock.library), "CLOCK_STEP_FILE": str(clock.file)}
    broker.start()
    yield broker
    broker.close()


def test_steps_of_the_wall_clock_end_no_lease_and_repeat_nothing(stepped, clock):
    """KINDS 22: leases, backoff and waits run on the monotonic clock."""
    client = stepped.client()
    worker = FakeWorker(stepped)
    try:
        worker.hello()
        worker.credit(1)
        held = client.submit("long", {})
        (task,) = worker.tasks(1)
        before = client.job(held)["created_at_ms"]
        batch = client.batch(words(400), kind="wordcount")
        for days in (1, 400, -400, -1, 0):
            clock.set(days * DAY_S)
            # Long enough for a rule by wall time to strike, as told by the broker's own answers.
            worker.sees_no_task(beats=8)
            other = client.submit("countdown", {"seconds": 0})
            assert client.wait(other, DEADLINE_S)["state"] == "succeeded"
            # The step is really seen by the broker.
            drift = client.job(other)["created_at_ms"] - before - days * DAY_S * 1000
            assert 0 <= drift < DEADLINE_S * 1000
        worker.finish(task, {"n": 1})
        assert worker.acknowledged(task) == "accepted"
        assert client.wait(held, DEADLINE_S)["result"] == {"n": 1}
        assert client.wait(batch, DEADLINE_S)["state"] == "succeeded"
        assert client.verify(batch)["answers"]["done"] == 400
        kinds = [event["type"] for event in client.events()]
        assert not {"task.retry", "worker.lost", "task.failed"} & set(kinds)
        assert kinds.count("worker.started") == 1, "the example's worker was started once and never again"
    finally:
        worker.close()


def test_a_backoff_goes_on_through_a_step_back(stepped, clock):
    """KINDS 22: a wait is neither cut short nor drawn out by a step."""
    client = stepped.client()
    worker = FakeWorker(stepped)
    try:
        worker.hello()
        worker.credit(1)
        job = client.submit("long", {})
        (task,) = worker.tasks(1)
        worker.fail(task, {"code": "BUSY", "class": "retryable", "message": "later"})
        worker.acknowledged(task)
        until(lambda: client.explain(job)["reason"]["code"] == "BACKOFF", "it waits")
        clock.set(-10 * DAY_S)
        worker.credit(2)
        (again,) = worker.tasks(1)
        assert again["task"] == task["task"] and again["attempt"] == 2
        worker.finish(again, {"n": 2})
        assert client.wait(job, DEADLINE_S)["result"] == {"n": 2}
    finally:
        worker.close()
