"""Fine-tunes three adapters on the embedded model and answers one batch that mixes them, all through the queue.

Starts a broker with a home of its own, adds the model, queues one fine-tune per task and, at the same moment, one batch
that names all adapters and the bare base model line by line, to run after the fine-tunes. Prints a table; leaves
`results.jsonl` and `summary.json` in the home; exits 1 with one line if an adapter falls short of PEFT's score less 3 points.

Needs only Python's standard library and the built programs.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEEDLING = ROOT / "examples" / "seedling"
TASKS = ("iso-date", "ticket-json", "redact")
ALLOWED_LOSS = 0.03


class Failure(Exception):
    """Something that ends the demo, told in one line."""


class Loraq:
    """The command line program, with its home."""

    def __init__(self, binary_folder: pathlib.Path, home: pathlib.Path) -> None:
        self.program = binary_folder / "loraq"
        self.home = home

    def __call__(self, *arguments: str, shown: bool = False) -> str:
        """Runs `loraq ARGUMENTS`; its standard output. With `shown` its progress goes to the terminal."""
        command = [str(self.program), *arguments, "--home", str(self.home)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=None if shown else subprocess.PIPE, text=True)
        if done.returncode != 0:
            reason = (done.stderr or done.stdout or "").strip() or f"exit code {done.returncode}"
            raise Failure(f"loraq {' '.join(arguments[:2])}: {reason}")
        return done.stdout

    def json(self, *arguments: str) -> dict:
        return json.loads(self(*arguments, "--json"))


def read_rows(path: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def mixed_batch(path: pathlib.Path) -> dict[str, str]:
    """Writes the batch: every evaluation row for its adapter and for the base, interleaved. The expected answers by id."""
    expected, lines = {}, []
    rows = {task: read_rows(SEEDLING / "tasks" / task / "eval.jsonl") for task in TASKS}
    for index in range(max(map(len, rows.values()))):
        for task in TASKS:
            if index >= len(rows[task]):
                continue
            *prompt, answer = rows[task][index]["messages"]
            for kind, model in (("adapter", f"tiny:{task}"), ("base", "tiny")):
                custom_id = f"{task}/{kind}/{index}"
                body = {"model": model, "messages": prompt, "temperature": 0, "max_tokens": 96}
                line = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
                lines.append(json.dumps(line))
                expected[custom_id] = answer["content"]
    path.write_text("\n".join(lines) + "\n")
    return expected


def score(path: pathlib.Path, expected: dict[str, str]) -> tuple[dict[str, dict[str, float]], int]:
    """Exact match by task and kind, and how many tokens were generated."""
    hits = {task: {"adapter": 0, "base": 0} for task in TASKS}
    totals = {task: {"adapter": 0, "base": 0} for task in TASKS}
    tokens, seen = 0, set()
    for row in read_rows(path):
        custom_id = row["custom_id"]
        if custom_id in seen:
            raise Failure(f"{custom_id} was answered twice")
        seen.add(custom_id)
        if row.get("error"):
            raise Failure(f"{custom_id}: {row['error'].get('message')}")
        task, kind, _ = custom_id.split("/")
        body = row["response"]["body"]
        tokens += body["usage"]["completion_tokens"]
        totals[task][kind] += 1
        hits[task][kind] += body["choices"][0]["message"]["content"] == expected[custom_id]
    if seen != set(expected):
        raise Failure(f"{len(set(expected) - seen)} of {len(expected)} lines were not answered")
    return {task: {kind: hits[task][kind] / totals[task][kind] for kind in hits[task]} for task in TASKS}, tokens


def proportional_mebibytes(pids: list[int]) -> float:
    """Sum of the proportional set sizes: shared pages count once."""
    total = 0
    for pid in pids:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def run(loraq: Loraq, home: pathlib.Path) -> dict:
    started = time.monotonic()
    loraq("up")
    loraq("models", "add", "tiny", str(SEEDLING / "model"))
    print(f"base model ready after {time.monotonic() - started:.1f} s; queueing 3 fine-tunes and 1 batch")

    fine_tunes = {}
    for task in TASKS:
        train = SEEDLING / "tasks" / task / "train.jsonl"
        recipe = SEEDLING / "recipes" / f"{task}.yaml"
        fine_tunes[task] = loraq(
            "finetune", "tiny", str(train), "--name", task, "--recipe", str(recipe), "--label", f"demo {task}"
        ).strip()
    batch_file = home / "batch.jsonl"
    expected = mixed_batch(batch_file)
    after = [word for job in fine_tunes.values() for word in ("--after", job)]
    batch = loraq("batch", str(batch_file), *after, "--label", "demo batch").strip()

    for task, job in fine_tunes.items():
        print(f"fine-tune {task}")
        loraq("wait", job, shown=True)
    print(f"batch of {len(expected)} lines, 3 adapters and the base mixed")
    loraq("wait", batch, shown=True)
    workers = loraq.json("workers", "list")["workers"]
    memory = proportional_mebibytes([worker["pid"] for worker in workers])
    loraq("results", batch, "--ordered", "-o", str(home / "results.jsonl"))
    seconds = time.monotonic() - started
    scores, tokens = score(home / "results.jsonl", expected)

    jobs = {job["job"]: job for job in loraq.json("status", batch, *fine_tunes.values())["jobs"]}
    reference = json.loads((SEEDLING / "reference.json").read_text())["exact_match_matrix"]
    summary = {"seconds": round(seconds, 1), "workers_pss_mebibytes": round(memory, 1), "tasks": {}}
    for task in TASKS:
        job = jobs[fine_tunes[task]]
        training = job["result"]
        summary["tasks"][task] = {
            "base": scores[task]["base"],
            "adapter": scores[task]["adapter"],
            "peft": reference[task][task],
            "training_seconds": round((job["finished_at_ms"] - job["started_at_ms"]) / 1000, 1),
            "training_tokens_per_second": round(training["tokens_per_second"]),
            "last_loss": training["last_loss"],
        }
    took = (jobs[batch]["finished_at_ms"] - jobs[batch]["started_at_ms"]) / 1000
    summary["batch"] = {
        "lines": len(expected),
        "seconds": round(took, 1),
        "generated_tokens": tokens,
        "generated_tokens_per_second": round(tokens / took) if took else None,
    }
    return summary


def show(summary: dict) -> None:
    print()
    print(f"{'task':<14}{'base':>8}{'adapter':>10}{'PEFT':>8}{'seconds':>10}{'tokens/s':>11}{'last loss':>12}")
    for task, row in summary["tasks"].items():
        print(
            f"{task:<14}{row['base']:>8.0%}{row['adapter']:>10.0%}{row['peft']:>8.0%}{row['training_seconds']:>10.1f}"
            f"{row['training_tokens_per_second']:>11,}{row['last_loss']:>12.4f}"
        )
    batch = summary["batch"]
    rate = batch["generated_tokens_per_second"]
    print(f"\nbatch: {batch['lines']} lines, {batch['seconds']} s, {rate} generated tokens/s")
    print(f"memory of all workers (sum of PSS): {summary['workers_pss_mebibytes']} MiB; in all {summary['seconds']} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / ".build" / "release", help="folder of the programs")
    parser.add_argument("--home", type=pathlib.Path, default=ROOT / ".demo", help="the broker's home; emptied first")
    options = parser.parse_args()
    home = options.home.resolve()
    loraq = Loraq(options.bin.resolve(), home)
    try:
        if home.exists():
            subprocess.run([loraq.program, "down", "--home", home], capture_output=True)
            shutil.rmtree(home)
        home.mkdir(parents=True)
        summary = run(loraq, home)
        (home / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        show(summary)
        short = [
            f"{task}: exact match {row['adapter']:.0%}, PEFT has {row['peft']:.0%}"
            for task, row in summary["tasks"].items()
            if row["adapter"] < row["peft"] - ALLOWED_LOSS
        ]
        if short:
            raise Failure("; ".join(short))
        return 0
    except Failure as failure:
        print(f"demo: {failure}", file=sys.stderr)
        return 1
    finally:
        if loraq.program.exists():
            subprocess.run([loraq.program, "down", "--home", home], capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
