"""Measures loraq through its own commands, and its peers on the same rows in the same run.

    .venv/bin/python Benchmarks/jobs.py --model FOLDER [--peers PYTHON]

FOLDER is a Hugging Face folder (SmolLM2-135M-Instruct for the figures in RESULTS.md), PYTHON one with torch, transformers and
peft; without it only loraq is measured. Work alternates between the two, `--rounds` times; medians and their ratio are printed.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

from host import ROOT, forget_test_settings

sys.path[:0] = [str(ROOT / "examples" / "demo"), str(ROOT / "examples" / "demo-smollm2")]

import expenses
from demo import Failure, Loraq

STEPS, BATCH, PROMPTS, NEW_TOKENS, ROWS = 24, 8, 64, 64, 32


def write_rows(path: pathlib.Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def train_here(loraq: Loraq, folder: pathlib.Path, round_number: int) -> dict:
    settings = {
        "r": 16, "lora_alpha": 32, "learning_rate": 5e-4, "lr_scheduler_type": "constant", "max_steps": STEPS,
        "per_device_train_batch_size": BATCH, "shuffle": "false",
    }  # fmt: skip
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    job = loraq("finetune", "smol", str(folder / "train.jsonl"), "--name", f"bench{round_number}", *words, "--wait").strip()
    return loraq.json("status", job.splitlines()[-1])["result"]


def generate_here(loraq: Loraq, folder: pathlib.Path, round_number: int) -> dict:
    job = loraq("batch", str(folder / "prompts.jsonl"), "--label", f"round {round_number}", "--wait").strip().splitlines()[-1]
    status = loraq.json("status", job)
    tokens = status["usage"]["completion_tokens"]
    seconds = (status["finished_at_ms"] - status["started_at_ms"]) / 1000
    return {"tokens_per_second": tokens / seconds, "tokens": tokens, "seconds": seconds}


def peer(python: str, work: str, model: str, folder: pathlib.Path) -> dict:
    command = [
        python, str(ROOT / "Benchmarks" / "peers" / "jobs.py"), work, "--model", model, "--train", str(folder / "train.jsonl"),
        "--prompts", str(folder / "prompts.jsonl"), "--steps", str(STEPS), "--batch", str(BATCH), "--rows", str(ROWS),
        "--new-tokens", str(NEW_TOKENS),
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Failure(f"the peer failed: {' '.join(command)}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(options: argparse.Namespace, folder: pathlib.Path) -> str:
    rows = expenses.rows(STEPS * BATCH, seed=1)
    write_rows(folder / "train.jsonl", rows)
    lines = []
    for index, row in enumerate(expenses.rows(PROMPTS, seed=3)):
        # A token bias keeps every answer at full length, as min_new_tokens does for the peer.
        body = {
            "model": "smol", "messages": row["messages"][:1], "temperature": 0, "max_tokens": NEW_TOKENS,
            "logit_bias": {"2": -100},
        }  # fmt: skip
        lines.append({"custom_id": str(index), "method": "POST", "url": "/v1/chat/completions", "body": body})
    write_rows(folder / "prompts.jsonl", lines)
    loraq = Loraq(options.bin.resolve(), folder / "home")
    figures: dict[str, list[float]] = {"train": [], "generate": [], "peer train": [], "peer generate": []}
    try:
        loraq("up")
        loraq("models", "add", "smol", options.model)
        for number in range(options.rounds):
            figures["train"].append(train_here(loraq, folder, number)["tokens_per_second"])
            figures["generate"].append(generate_here(loraq, folder, number)["tokens_per_second"])
            if options.peers:
                figures["peer train"].append(peer(options.peers, "train", options.model, folder)["tokens_per_second"])
                figures["peer generate"].append(peer(options.peers, "generate", options.model, folder)["tokens_per_second"])
    finally:
        subprocess.run([loraq.program, "down", "--home", folder / "home"], capture_output=True)

    def cell(name: str) -> str:
        values = figures[name]
        return f"{statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f})" if values else "not run"

    def ratio(ours: str, theirs: str) -> str:
        return f"{statistics.median(figures[ours]) / statistics.median(figures[theirs]):.2f}" if figures[theirs] else ""

    training = f"LoRA r=16, all linears, bf16, {STEPS} steps of {BATCH} rows"
    answers = f"{PROMPTS} prompts × {NEW_TOKENS} tokens, greedy, bf16 (peer: {ROWS} rows at once)"
    return "\n".join(
        [
            f"{pathlib.Path(options.model).name}, {options.rounds} rounds, alternating; tokens/s: median (least–most).",
            "",
            "| work | loraq | peer | ratio |",
            "| --- | --- | --- | --- |",
            f"| {training} | {cell('train')} | PEFT, eager: {cell('peer train')} | {ratio('train', 'peer train')} |",
            f"| {answers} | {cell('generate')} | transformers `generate`: {cell('peer generate')} | "
            f"{ratio('generate', 'peer generate')} |",
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / ".build" / "release")
    parser.add_argument("--model", required=True, help="a Hugging Face folder")
    parser.add_argument("--peers", help="a Python with torch, transformers and peft")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    forget_test_settings()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="loraq-bench-"))
    try:
        table = measure(options, folder)
    except Failure as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
