"""Workers as a service: memory and throughput of 1, 2 and 4 workers on one base; how fast a worker and an adapter are ready.

    .venv/bin/python Benchmarks/service.py memory|start --model FOLDER [--lines 320]

FOLDER is one that `peers/make_models.py` made: hf/ and adapters a0, a1, …
"""

import argparse
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from host import ROOT, forget_test_settings

sys.path[:0] = [str(ROOT / "clients" / "python" / "src"), str(ROOT / "examples" / "demo")]

from demo import Loraq
from loraq import Client

WAIT_S, POLL_S = 120, 0.002
ADAPTERS, STARTS = 8, 7
#: A worker is filled before the next one gets work; this is more than one takes.
FILL = 96


def ready(client: Client, count: int) -> list[dict]:
    """The workers, when so many are ready and no other is there."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        workers = [worker for worker in client.workers()["workers"] if worker["state"] != "stopped"]
        if len(workers) == count and all(worker["state"] == "ready" for worker in workers):
            return workers
        time.sleep(POLL_S)
    sys.exit(f"bench: {count} workers were not ready in {WAIT_S} s: {workers}")


def smaps(pid: int) -> dict[str, int]:
    """Bytes by kind."""
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def lines(models: list[str], count: int, tokens: int, prompt: int = 48) -> list[dict]:
    draw = random.Random(5)
    return [
        {
            "custom_id": str(number), "method": "POST", "url": "/v1/completions",
            "body": {
                "model": models[number % len(models)], "temperature": 0, "max_tokens": tokens,
                "prompt": "".join(draw.choice("abcdefghijklmnop ") for _ in range(prompt)), "logit_bias": {"0": -100},
            },
        }
        for number in range(count)
    ]  # fmt: skip


def run(client: Client, batch: list[dict]) -> dict:
    job = client.wait(client.batch(batch))
    if job["state"] != "succeeded" or job["counts"]["done"] != len(batch):
        sys.exit(f"bench: the batch ended as {job['state']}: {job.get('error')}")
    return job


def memory(client: Client, options: argparse.Namespace) -> None:
    packed = sum(file.stat().st_size for file in options.home.glob("models/*/packed*") if file.is_file())
    print(f"135M shape, packed file {packed / 2**20:,.0f} MiB; {options.lines} lines of 48 prompt tokens and 24 answers.\n")
    print("| workers | tokens/s | sum of PSS, MiB | of which private, MiB | sum allowed, MiB |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    private = 0
    for count in (1, 2, 4):
        client.scale("lora", count)
        ready(client, count)
        run(client, lines(["base"], FILL * count, 2, prompt=8))  # every worker has the model
        job = run(client, lines(["base"], options.lines, 24))
        sets = [smaps(worker["pid"]) for worker in ready(client, count)]
        own = sum(one["Private_Clean"] + one["Private_Dirty"] for one in sets)
        total = sum(one["Pss"] for one in sets)
        if count == 1:
            # With one worker the mapped file counts as its own.
            private = total - packed
        allowed = 1.15 * (packed + private * count)
        seconds = (job["finished_at_ms"] - job["started_at_ms"]) / 1000
        rate = job["usage"]["completion_tokens"] / seconds
        print(f"| {count} | {rate:,.0f} | {total / 2**20:,.0f} | {own / 2**20:,.0f} | {allowed / 2**20:,.0f} |")


def start(client: Client, options: argparse.Namespace) -> None:
    waits, answers = [], []
    for _ in range(STARTS):
        client.scale("lora", 0)
        ready(client, 0)
        begin = time.monotonic()
        client.scale("lora", 1)
        ready(client, 1)
        waits.append(time.monotonic() - begin)
        begin = time.monotonic()
        run(client, lines(["base"], 1, 1))
        answers.append(time.monotonic() - begin)
    for number in range(ADAPTERS):
        path = str((options.model / f"a{number}").absolute())
        job = client.submit("adapter", {"action": "register", "model": "base", "name": f"a{number}", "path": path})
        if client.wait(job)["state"] != "succeeded":
            sys.exit(f"bench: registration failed: {client.job(job)['error']}")
    loads = []
    client.scale("lora", 0)
    ready(client, 0)
    client.scale("lora", 1)
    ready(client, 1)
    run(client, lines(["base"], 1, 1))
    for number in range(ADAPTERS):
        usage = run(client, lines([f"base:a{number}"], 1, 1))["usage"]
        loads += [usage["adapter_load_seconds"]] * int(usage["adapter_loads"] == 1)
    if len(loads) != ADAPTERS:
        sys.exit(f"bench: {len(loads)} of {ADAPTERS} adapters were loaded")

    def cell(values: list[float]) -> str:
        return f"{1000 * statistics.median(values):.1f} ({1000 * min(values):.1f}–{1000 * max(values):.1f})"

    print("135M shape, packed before; milliseconds, median (least–most).\n")
    print("| what | ms | must |\n| --- | ---: | ---: |")
    print(f"| `scale lora 1` to a worker that is ready, {STARTS} times | {cell(waits)} | 150 |")
    print(f"| first line of one token after that: model mapped, engine started, a job through the queue | {cell(answers)} | |")
    print(f"| cold adapter, r=16 on all linears: read, checked, packed; {ADAPTERS} of them | {cell(loads)} | 10 |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["memory", "start"])
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / ".build" / "release")
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--lines", type=int, default=320)
    options = parser.parse_args()
    forget_test_settings()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="lqs-"))
    options.home = folder / "home"
    loraq = Loraq(options.bin.resolve(), options.home)
    try:
        loraq("up")
        loraq("models", "add", "base", str((options.model / "hf").absolute()))
        with Client(home=folder / "home", timeout=300) as client:
            (memory if options.what == "memory" else start)(client, options)
    finally:
        subprocess.run([loraq.program, "down", "--home", folder / "home"], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
