"""Measures the queue on tasks that do nothing, through the real `loraqd`, its store and two worker processes.

    make bench-queue [PEERS=python-with-hyperqueue-and-rq] [SCALE=1]

Every submit is on the disk before it is answered. What the disk itself does (a synced 4 KiB write, a great file written and synced)
is measured and printed beside, in the same run; so are the peers, on the same load. SCALE below 1 does less of everything.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "clients/python/src"), str(ROOT / "Benchmarks")]

from loraq import Client, Message
from loraq.client import new_job_id

WORKERS = 2
PARTS = ("latency", "latency-memory", "speed", "waiting", "start")
#: Requests on their way at a time; jobs in one.
PIPELINED, PER_MESSAGE = 8, 250


def machine() -> str:
    info = pathlib.Path("/proc/cpuinfo").read_text()
    name = next(line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name"))
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


class Loraqd:
    """A broker with two no-op workers, with a home of its own."""

    def __init__(self, binaries: pathlib.Path, folder: pathlib.Path) -> None:
        self.binaries, self.home = binaries, folder / "home"
        plugin = folder / "plugins" / "noop"
        plugin.mkdir(parents=True)
        (plugin / "run").write_text(f"#!/bin/sh\nexec {sys.executable} {ROOT}/Benchmarks/queue/noop.py\n")
        (plugin / "run").chmod(0o755)
        # `idle` is a kind that nobody has room for: its tasks wait.
        kinds = [{"name": "noop", "class": "slot"}, {"name": "idle", "class": "none"}]
        manifest = {"name": "noop", "version": "1", "protocol": "LQP/1", "exec": ["./run"], "kinds": kinds, "instances": WORKERS}
        (plugin / "worker.json").write_text(json.dumps(manifest))
        self.process: subprocess.Popen | None = None

    def start(self) -> float:
        """Seconds until it is ready."""
        begin = time.monotonic()
        command = [str(self.binaries / "loraqd"), "--home", str(self.home), "--workers", str(self.home.parent / "plugins")]
        command += ["--limit", "unfinishedJobs=1200000", "--log-level", "error"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        return time.monotonic() - begin

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait()

    def resident_mib(self) -> float:
        assert self.process is not None
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def pipelined(client: Client, verb: str, requests: Iterator[tuple[dict, list]]) -> None:
    """Sends requests with some on their way at a time, and waits for every answer."""
    socket, waiting = client._socket, 0

    def take() -> None:
        reply = Message.parse(socket.recv_multipart())
        if reply.verb == "ERROR" or any("error" in item for item in reply.header.get("results", [])):
            raise SystemExit(f"refused: {reply.header}")

    for number, (header, bodies) in enumerate(requests):
        socket.send_multipart(Message(verb, header | {"request_id": f"p{number}"}, bodies).frames())
        waiting += 1
        if waiting >= PIPELINED:
            take()
            waiting -= 1
    for _ in range(waiting):
        take()


def submit_many(client: Client, count: int, kind: str) -> float:
    """Seconds for that many jobs of one task, each with an id and a spec of its own, until the last is acknowledged."""

    def requests() -> Iterator[tuple[dict, list]]:
        for begin in range(0, count, PER_MESSAGE):
            jobs = [{"id": new_job_id(), "kind": kind, "spec": {"n": begin + n}} for n in range(min(PER_MESSAGE, count - begin))]
            yield {"jobs": jobs}, []

    prepared = list(requests())
    begin = time.monotonic()
    pipelined(client, "SUBMIT_BATCH", iter(prepared))
    return time.monotonic() - begin


def lines(count: int) -> bytes:
    return b"".join(b'{"custom_id":"%d"}\n' % number for number in range(count))


def batch_seconds(client: Client, count: int, **options) -> float:
    """Seconds from the submit of a batch file to the end of its job."""
    content = lines(count)
    begin = time.monotonic()
    job = client.batch(content, kind="noop", **options)
    status = client.wait(job, 3600)
    assert status["counts"]["done"] == count, status
    return time.monotonic() - begin


def latency_ms(client: Client, count: int) -> list[float]:
    """From a submit to the event that its job has succeeded, on an idle broker."""
    took = []
    with client._subscribed("job/") as events:
        while not events.poll(100):
            client.submit("noop", {})
        while events.poll(300):
            events.recv_multipart()
        for _ in range(count):
            job = new_job_id()
            begin = time.monotonic()
            client.submit("noop", {}, id=job)
            while True:
                header = Message.parse(events.recv_multipart()[1:]).header
                if header["type"] == "job.succeeded" and header["job"] == job:
                    break
            took.append((time.monotonic() - begin) * 1000)
    return took


def sync_ms(folder: pathlib.Path, count: int) -> float:
    """The median of a 4 KiB write with its sync."""
    took = []
    with (folder / "sync").open("wb") as file:
        for _ in range(count):
            file.write(b"x" * 4096)
            file.flush()
            begin = time.monotonic()
            os.fdatasync(file.fileno())
            took.append((time.monotonic() - begin) * 1000)
    return statistics.median(took)


def disk_mb_per_s(folder: pathlib.Path, content: bytes) -> float:
    begin = time.monotonic()
    with (folder / "great").open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return len(content) / 1e6 / (time.monotonic() - begin)


class Table:
    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []

    def add(self, work: str, figure: str, beside: str = "") -> None:
        self.rows.append((work, figure, beside))
        print(f"{work}: {figure}  {beside}", flush=True)

    def text(self, command: str) -> str:
        head = f"## {datetime.date.today()}: the queue, {machine()}\n\n`{command}`\n\n"
        head += "| work | figure | beside it |\n| --- | --- | --- |\n"
        return head + "".join(f"| {' | '.join(row)} |\n" for row in self.rows)


def measure_latency(table: Table, client: Client, folder: pathlib.Path, scale: float, where: str) -> None:
    took = latency_ms(client, int(400 * scale) + 20)
    table.add(
        f"one task on an idle broker, submit to the event of its end, {where}",
        f"p50 {statistics.median(took):.2f} ms, p99 {statistics.quantiles(took, n=100)[98]:.2f} ms",
        f"two commits after each other; a synced 4 KiB write takes {sync_ms(folder, 200):.2f} ms there",
    )


def measure_speed(table: Table, client: Client, broker: Loraqd, folder: pathlib.Path, scale: float) -> dict[str, float]:
    count = int(50_000 * scale)
    submits = count / submit_many(client, count, "idle")
    table.add(f"durable submits, {PER_MESSAGE} in a message, {PIPELINED} messages on their way", f"{submits:,.0f} /s")
    drop_waiting(client, "idle")
    count = int(100_000 * scale)
    tasks = count / batch_seconds(client, count)
    table.add(f"no-op tasks end to end, a batch of {count:,} lines, {WORKERS} workers", f"{tasks:,.0f} /s")
    count = int(20_000 * scale)
    begin = time.monotonic()
    submit_many(client, count, "noop")
    wait_until_ended(client)
    table.add(f"no-op tasks end to end, {count:,} jobs of one task", f"{count / (time.monotonic() - begin):,.0f} /s")
    content = os.urandom(1 << 20) * 100
    disk = disk_mb_per_s(folder, content)
    begin = time.monotonic()
    client.upload(content)
    rate = len(content) / 1e6 / (time.monotonic() - begin)
    table.add("upload of a 105 MB file, digests on both sides", f"{rate:.0f} MB/s", f"written and synced alone: {disk:.0f} MB/s")
    return {"submits_per_s": submits, "tasks_per_s": tasks}


def drop_waiting(client: Client, kind: str) -> None:
    while True:
        ids = [job["job"] for job in page(client, "queued") if job["kind"] == kind]
        if not ids:
            return
        client.cancel(*ids)


def page(client: Client, state: str) -> list[dict]:
    return client.request("LIST", {"state": state, "limit": 100}).header["jobs"]


def wait_until_ended(client: Client) -> None:
    while any(client.ping()["jobs"].get(state, 0) for state in ("queued", "waiting", "running", "splitting")):
        time.sleep(0.005)


def measure_waiting(table: Table, client: Client, broker: Loraqd, scale: float) -> None:
    """The cost of a task by how many others wait: they have a lower priority, and nobody has room for them."""
    probe = int(20_000 * scale)
    waiting = 0
    for goal in (0, 1_000, 100_000, 1_000_000):
        goal = int(goal * scale)
        if goal > waiting:
            submit_many(client, goal - waiting, "idle")
            waiting = goal
        seconds = min(batch_seconds(client, probe, priority=10) for _ in range(2))
        note = f"broker: {broker.resident_mib():.0f} MiB"
        table.add(f"cost of a task with {waiting:,} jobs waiting", f"{seconds / probe * 1e6:.1f} µs", note)


def measure_start(table: Table, client: Client, broker: Loraqd, scale: float) -> None:
    finished, waiting = int(1_000_000 * scale), int(100_000 * scale)
    begin = time.monotonic()
    batch_seconds(client, finished)
    rate = finished / (time.monotonic() - begin)
    table.add(f"a batch of {finished:,} lines", f"{rate:,.0f} tasks/s", f"broker: {broker.resident_mib():.0f} MiB")
    submit_many(client, waiting, "idle")
    size = (broker.home / "jobs.sqlite").stat().st_size / 1e6
    broker.stop()
    seconds = broker.start()
    work = f"start with {finished:,} finished and {waiting:,} waiting tasks in the store"
    table.add(work, f"{seconds:.2f} s", f"{size:.0f} MB of store")


def measure_peers(table: Table, python: str, scale: float, ours: dict[str, float]) -> None:
    for peer, tasks in (("hyperqueue", int(3_000 * scale) + 100), ("rq", max(1_000, int(4_000 * scale)))):
        command = [python, str(ROOT / "Benchmarks/queue/peers.py"), peer, "--tasks", str(tasks)]
        # HyperQueue writes two files for each task into the working folder.
        with tempfile.TemporaryDirectory(prefix="lqb-") as folder:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=folder)
        if done.returncode != 0:
            print(f"{peer} failed", file=sys.stderr)
            continue
        figures = json.loads(done.stdout.splitlines()[-1])
        for name, word in (("submits_per_s", "submits"), ("tasks_per_s", "tasks end to end")):
            table.add(f"{figures['peer']}: {word}", f"{figures[name]:,.0f} /s", f"loraq: {ours[name] / figures[name]:.1f}×")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / ".build" / "release")
    parser.add_argument("--peers", help="a Python with hyperqueue and rq")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"which of {', '.join(PARTS)} to measure")
    parser.add_argument("--write", action="store_true", help="add the table to RESULTS.md")
    options = parser.parse_args()
    table, ours = Table(), {}
    parts = options.parts.split(",")
    for part in parts:
        # A disk in memory, where a sync costs nothing: what is left is the broker's own.
        folder = pathlib.Path(tempfile.mkdtemp(prefix="lqb-", dir="/dev/shm" if part == "latency-memory" else "/tmp"))
        broker = Loraqd(options.bin.absolute(), folder)
        try:
            broker.start()
            with contextlib.closing(Client(broker.home, timeout=600)) as client:
                while len([w for w in client.workers()["workers"] if w["state"] == "ready"]) < WORKERS:
                    time.sleep(0.01)
                if part.startswith("latency"):
                    where = "home in memory" if part == "latency-memory" else "home on the disk"
                    measure_latency(table, client, folder, options.scale, where)
                elif part == "speed":
                    ours = measure_speed(table, client, broker, folder, options.scale)
                elif part == "waiting":
                    measure_waiting(table, client, broker, options.scale)
                else:
                    measure_start(table, client, broker, options.scale)
            broker.stop()
        finally:
            if broker.process is not None and broker.process.poll() is None:
                broker.process.kill()
                broker.process.wait()
            shutil.rmtree(folder, ignore_errors=True)
    if options.peers and ours:
        measure_peers(table, options.peers, options.scale, ours)
    if options.write:
        command = "make bench-queue" + (" PEERS=python" if options.peers else "")
        command += f" SCALE={options.scale:g}" if options.scale != 1 else ""
        results = ROOT / "Benchmarks" / "RESULTS.md"
        results.write_text(results.read_text() + "\n" + table.text(command))


if __name__ == "__main__":
    main()
