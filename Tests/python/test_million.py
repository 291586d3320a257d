"""A batch of a million lines: memory stays flat, results can be read while it runs, the broker is killed three times.

`LORAQ_BATCH_LINES=1000000` runs the full size (about two minutes); by default fewer lines show the same.
"""

import json
import os
import pathlib
import subprocess
import sys

from harness import BIN, DEADLINE_S, until

LINES = int(os.environ.get("LORAQ_BATCH_LINES", "60000"))
#: Stated in docs/architecture.md: peak resident memory of the broker and of the command line, whatever the number of lines.
BROKER_MIB = 160
COMMAND_MIB = 64
#: Stated in docs/operations.md: the write-ahead log, at any time.
WAL_MIB = 64


def peak_mib(pid: int) -> float:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


#: Runs a command and writes its peak memory in KiB as the last line of standard error. A process of its own, since a child's
#: `ru_maxrss` begins with the size of the process that it was forked from.
MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], check=False).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def command(broker, *words: str) -> tuple[str, float]:
    """Runs `loraq`; its output and its peak memory in MiB."""
    line = [sys.executable, "-S", "-c", MEASURE, str(BIN / "loraq"), *words, "--home", str(broker.home)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout, int(done.stderr.split()[-1]) / 1024


def test_a_great_batch_in_flat_memory_through_three_kills(broker, tmp_path):
    file = tmp_path / "lines.jsonl"
    with file.open("w") as out:
        out.writelines(f'{{"custom_id": "line-{number}", "text": "a b c"}}\n' for number in range(LINES))
    output, peak = command(broker, "batch", str(file), "--kind", "wordcount")
    peaks = {"batch": peak}
    client = broker.client(timeout=120)
    job = output.strip()
    brokers, logs = [], []
    wal = broker.home / "jobs.sqlite-wal"
    for share in (0.2, 0.5, 0.8):
        until(lambda share=share: client.job(job)["counts"]["done"] >= share * LINES, "the batch runs", 10 * DEADLINE_S)
        lines, _, _ = client.fetch(job, limit=100)
        assert len(lines) == 100, "results are read while it runs"
        brokers.append(peak_mib(broker.process.pid))
        logs.append(wal.stat().st_size / 2**20)
        broker.restart()
    client.wait(job, 10 * DEADLINE_S)
    output, peaks["verify"] = command(broker, "verify", "last", "--json")
    proof = json.loads(output)
    assert proof["verified"] and proof["answers"]["done"] == LINES, proof
    target = tmp_path / "out.jsonl"
    _, peaks["results"] = command(broker, "results", job, "-o", str(target))
    with target.open() as lines:
        ids = {json.loads(line)["custom_id"] for line in lines}
    assert ids == {f"line-{number}" for number in range(LINES)}
    brokers.append(peak_mib(broker.process.pid))
    print(f"{LINES} lines; peak MiB of the broker {[round(peak) for peak in brokers]}, of the commands {peaks}")
    logs.append(wal.stat().st_size / 2**20)
    assert max(logs) <= WAL_MIB, logs
    assert max(brokers) < BROKER_MIB
    assert max(peaks.values()) < COMMAND_MIB
