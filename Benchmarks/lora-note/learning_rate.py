#!/usr/bin/env python3
"""How the best learning rate depends on which matrices are adapted.

    python3 Benchmarks/lora-note/learning_rate.py [--bin .build/release] [--home FOLDER]

Trains adapters of the embedded model (examples/seedling) with every rate of a grid, for placements from all linear
matrices down to one kind of matrix or one layer, and writes the evaluation losses to learning-rate.json and
learning-rate.md beside this file. Runs that learning-rate.json has already are not repeated.
"""

import argparse
import json
import math
import os
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SEEDLING = ROOT / "examples" / "seedling"
TASKS = ["iso-date", "ticket-json"]
RATES = [1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2]
PLACEMENTS = {
    "all-linear": {},
    "mlp": {"target_modules": "mlp"},
    "attention": {"target_modules": "attention"},
    "qkv": {"target_modules": "qkv"},
    "q_proj, v_proj": {"target_modules": "q_proj,v_proj"},
    "v_proj": {"target_modules": ".*v_proj"},
    "last layer": {
        "target_modules": "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj",
        "layers_to_transform": "4",
    },
}
COMMON = {
    "r": 8,
    "lora_alpha": 16,
    "max_steps": 60,
    "warmup_steps": 6,
    "lr_scheduler_type": "linear",
    "per_device_train_batch_size": 8,
    "save_steps": 1000,
    "seed": 0,
}
EVAL_ROWS = 32


def runs(extra):
    for task in TASKS:
        for placement in PLACEMENTS:
            for rate in [*RATES, *extra]:
                yield task, placement, rate


def key(task, placement, rate):
    return f"{task} | {placement} | {rate if isinstance(rate, str) else format(rate, '.3g')}"


class Loraq:
    def __init__(self, binaries, home):
        self.tool = str(Path(binaries).resolve() / "loraq")
        self.home = home

    def __call__(self, *arguments):
        done = subprocess.run(
            [self.tool, "--home", self.home, *arguments], capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"loraq {' '.join(arguments)}: {done.stderr}")
        return done.stdout.strip()


def shares(rows):
    """Placement -> (inputs + outputs of adapted matrices) / (of all linear matrices)."""
    whole = max(row["parameters"] for row in rows.values())
    return {row["placement"]: row["parameters"] / whole for row in rows.values() if row["parameters"]}


def best(rows, task, placement):
    """The rate of the least loss on the grid, and that loss."""
    found = [
        (rows[key(task, placement, rate)]["eval_loss"], rate)
        for rate in RATES
        if rows.get(key(task, placement, rate), {}).get("eval_loss") is not None
    ]
    return min(found, default=None)


def slope(rows):
    """Least squares of log(best rate / best rate of all matrices of the task) = p log(1 / share), through the origin."""
    share = shares(rows)
    points = []
    for task in TASKS:
        whole = best(rows, task, "all-linear")
        for placement in PLACEMENTS:
            here = best(rows, task, placement)
            if whole and here and placement != "all-linear":
                points.append((math.log(1 / share[placement]), math.log(here[1] / whole[1])))
    return sum(x * y for x, y in points) / sum(x * x for x, _ in points)


def table(rows, extra):
    share = shares(rows)
    lines = []
    for task in TASKS:
        lines += [f"## {task}: loss after {COMMON['max_steps']} steps", ""]
        heads = [f"{rate:g}" for rate in RATES] + list(extra)
        lines.append("| adapted | share | " + " | ".join(heads) + " |")
        lines.append("| --- | --- |" + " --- |" * len(heads))
        for placement in PLACEMENTS:
            least = best(rows, task, placement)
            cells = []
            for rate in [*RATES, *extra]:
                row = rows.get(key(task, placement, rate))
                if row is None:
                    cells.append("")
                    continue
                loss = row["eval_loss"]
                text = "diverged" if loss is None else f"{loss:.3f}"
                if isinstance(rate, str):
                    text += f" ({row['learning_rate']:.2g})"
                elif least and rate == least[1]:
                    text = f"**{text}**"
                cells.append(text)
            lines.append(f"| {placement} | {share[placement]:.3f} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def report(rows, extra):
    common = ", ".join(f"{name} {value}" for name, value in COMMON.items() if name != "save_steps")
    lines = [
        "# Learning rate against placement",
        "",
        "Made by `python3 Benchmarks/lora-note/learning_rate.py`: evaluation losses of the embedded model's adapters,",
        f"{EVAL_ROWS} rows that were not trained, {common}. *Share* is the adapted matrices' inputs + outputs over those",
        "of all linear matrices: the share of trainable parameters at equal rank. The least loss of a row is bold.",
        "",
        *table(rows, extra),
        f"Best rate ~ share^-{slope(rows):.2f} (least squares through the best rate of all matrices, both tasks).",
        "",
    ]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", default=str(ROOT / ".build" / "release"))
    parser.add_argument("--home", help="a broker's folder of its own (default: a temporary one)")
    parser.add_argument("--words", default="auto,find", help="rates by name to set beside the grid; empty: none")
    parser.add_argument("--again", default="", help="rates by name to run again though their results are there")
    parser.add_argument("--table", action="store_true", help="only write the table anew")
    options = parser.parse_args()
    extra = [word for word in options.words.split(",") if word]
    store = HERE / "learning-rate.json"
    rows = json.loads(store.read_text()) if store.exists() else {}
    for word in filter(None, options.again.split(",")):
        rows = {name: row for name, row in rows.items() if not name.endswith(f"| {word}")}
    if not options.table:
        with tempfile.TemporaryDirectory(prefix="loraq-note-") as scratch:
            measure(Loraq(options.bin, options.home or f"{scratch}/home"), rows, extra, store, Path(scratch))
    (HERE / "learning-rate.md").write_text(report(rows, extra))
    print(report(rows, extra))


def measure(loraq, rows, extra, store, scratch):
    loraq("up")
    try:
        loraq("models", "add", "tiny", str(SEEDLING / "model"))
        for task in TASKS:
            lines = (SEEDLING / "tasks" / task / "eval.jsonl").read_text().splitlines()[:EVAL_ROWS]
            (scratch / f"{task}.jsonl").write_text("\n".join(lines) + "\n")
        for task, placement, rate in runs(extra):
            name = key(task, placement, rate)
            if name in rows:
                continue
            fields = {**COMMON, **PLACEMENTS[placement], "learning_rate": rate}
            settings = [part for field, value in fields.items() for part in ("--set", f"{field}={value}")]
            job = loraq(
                "finetune", "tiny", str(SEEDLING / "tasks" / task / "train.jsonl"),
                "--eval", str(scratch / f"{task}.jsonl"), "--name", "note", *settings,
            )
            state = json.loads(subprocess.run(
                [loraq.tool, "--home", loraq.home, "wait", job, "--json"], capture_output=True, text=True
            ).stdout)
            result = state.get("result") or {}
            rows[name] = {
                "task": task, "placement": placement,
                "learning_rate": result.get("learning_rate"),
                "parameters": result.get("trainable_parameters", 0),
                "eval_loss": result.get("eval_loss_after"),
                "state": state["state"],
            }
            partial = store.with_suffix(".tmp")
            partial.write_text(json.dumps(rows, indent=1) + "\n")
            os.replace(partial, store)
            print(name, rows[name]["eval_loss"], flush=True)
    finally:
        loraq("down")


if __name__ == "__main__":
    main()
