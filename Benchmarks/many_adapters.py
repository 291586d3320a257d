"""A thousand adapters in one batch file, beside the same lines with one adapter and with none.

    .venv/bin/python Benchmarks/many_adapters.py [--model FOLDER] [--adapters 1000] [--lines 20000] [--rank 8] [--tokens 8]

Registers so many different adapters of one base model, then runs the same lines three times, each line naming the base, one
adapter, or one of all at random. Prints tokens/s of each, how often an adapter had to be loaded, and how long that took.
"""

import argparse
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

from host import ROOT, forget_test_settings

sys.path[:0] = [str(ROOT / "clients" / "python" / "src"), str(ROOT / "examples" / "demo")]

from demo import Loraq
from loraq import Client

TASK = ROOT / "examples" / "seedling" / "tasks" / "iso-date"


def first_adapter(client: Client, folder: pathlib.Path, rank: int) -> pathlib.Path:
    """One training step gives an adapter of the model's shape."""
    recipe = {"r": rank, "lora_alpha": 2 * rank, "max_steps": 1, "per_device_train_batch_size": 4, "learning_rate": 1e-3}
    job = client.finetune("base", TASK / "train.jsonl", "first", recipe=recipe)
    status = client.wait(job)
    if status["state"] != "succeeded":
        sys.exit(f"bench: the first adapter failed: {status['error']}")
    client.download("base:first", folder)
    return folder


def register(client: Client, source: pathlib.Path, folder: pathlib.Path, count: int) -> float:
    """Registers adapters that differ in their last number; returns the seconds that took."""
    weights = (source / "adapter_model.safetensors").read_bytes()
    start = time.monotonic()
    jobs = []
    for number in range(count):
        made = folder / f"a{number}"
        made.mkdir(parents=True)
        shutil.copy(source / "adapter_config.json", made)
        tail = (number + 1).to_bytes(4, "little")  # a tiny float32 that is another one for each adapter
        (made / "adapter_model.safetensors").write_bytes(weights[:-4] + tail)
        jobs.append(client.submit("adapter", {"action": "register", "model": "base", "name": f"a{number}", "path": str(made)}))
    for job in jobs:
        if client.wait(job)["state"] != "succeeded":
            sys.exit(f"bench: registration failed: {client.job(job)['error']}")
    return time.monotonic() - start


def batch(client: Client, models: list[str], options: argparse.Namespace) -> dict:
    """Runs the lines, each with a model drawn from `models`; returns the job."""
    draw = random.Random(1)
    prompts = [json.loads(line)["messages"][:1] for line in (TASK / "eval.jsonl").read_text().splitlines()]
    lines = [
        {
            "custom_id": str(number), "method": "POST", "url": "/v1/chat/completions",
            "body": {"model": draw.choice(models), "messages": draw.choice(prompts), "temperature": 0,
                     "max_tokens": options.tokens},
        }
        for number in range(options.lines)
    ]  # fmt: skip
    return client.wait(client.batch(lines))


def row(name: str, job: dict, adapters: int) -> str:
    usage, seconds = job["usage"], (job["finished_at_ms"] - job["started_at_ms"]) / 1000
    tokens = usage["prompt_tokens"] + usage["completion_tokens"]
    loads, spent = usage.get("adapter_loads", 0), usage.get("adapter_load_seconds", 0)
    lines = job["counts"]["done"]
    hits = f"{100 * (1 - loads / lines):.1f}%" if adapters else ""
    each = f"{1000 * spent / loads:.1f}" if loads else ""
    return f"| {name} | {lines / seconds:.0f} | {tokens / seconds:.0f} | {loads:.0f} | {hits} | {each} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / ".build" / "release")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "examples" / "seedling" / "model")
    parser.add_argument("--adapters", type=int, default=1000)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=8, help="the most tokens of an answer")
    options = parser.parse_args()
    forget_test_settings()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="loraq-many-"))
    loraq = Loraq(options.bin.resolve(), folder / "home")
    try:
        loraq("up")
        loraq("models", "add", "base", str(options.model.resolve()))
        with Client(home=folder / "home") as client:
            source = first_adapter(client, folder / "first", options.rank)
            seconds = register(client, source, folder / "made", options.adapters)
            names = [f"base:a{number}" for number in range(options.adapters)]
            jobs = {
                "the base": (batch(client, ["base"], options), 0),
                "one adapter": (batch(client, names[:1], options), 1),
                f"{options.adapters:,} adapters, at random": (batch(client, names, options), options.adapters),
            }
    finally:
        subprocess.run([loraq.program, "down", "--home", folder / "home"], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{options.model.name}, r={options.rank} on all linears; {options.lines:,} lines of at most {options.tokens} new tokens;")
    print(f"{options.adapters:,} adapters registered in {seconds:.1f} s.\n")
    print("| lines name | lines/s | tokens/s, prompts included | loads | in memory | ms a load |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (job, adapters) in jobs.items():
        print(row(name, job, adapters))


if __name__ == "__main__":
    main()
