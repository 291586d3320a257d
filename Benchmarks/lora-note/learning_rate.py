#!/usr/bin/env python3
"""How the best learning rate depends on which matrices are adapted, and on the width of the model.

    python3 Benchmarks/lora-note/learning_rate.py [--bin .build/release] [--home FOLDER] [--wide FOLDER]

Trains adapters of the embedded model (examples/seedling) with every rate of a grid, for placements from all linear
matrices down to one kind of matrix or one layer, and writes the evaluation losses to learning-rate.json and
learning-rate.md beside this file. Runs that learning-rate.json has already are not repeated. With --wide, the folder of
SmolLM2-135M-Instruct, all linear matrices are trained there too, which takes half an hour.
"""

import argparse
import itertools
import json
import math
import os
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SEEDLING = ROOT / "examples" / "seedling"
NARROW, WIDE = "seedling", "smollm2-135m"
WIDTHS = {NARROW: 192, WIDE: 576}
TASKS = {NARROW: ["iso-date", "ticket-json"], WIDE: ["iso-date"]}
RATES = {
    NARROW: [1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2],
    WIDE: [2.5e-4, 1e-3, 2e-3, 4e-3, 8e-3],
}
TARGETS = {
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
PLACEMENTS = {NARROW: list(TARGETS), WIDE: ["all-linear"]}
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


def key(model, task, placement, rate):
    return " | ".join([model, task, placement, rate if isinstance(rate, str) else format(rate, ".3g")])


def cells(model):
    return [(task, placement) for task in TASKS[model] for placement in PLACEMENTS[model]]


class Results:
    """What is measured so far."""

    def __init__(self, path):
        self.path = path
        self.rows = json.loads(path.read_text()) if path.exists() else {}

    def add(self, name, row):
        self.rows[name] = row
        partial = self.path.with_suffix(".tmp")
        partial.write_text(json.dumps(self.rows, indent=1) + "\n")
        os.replace(partial, self.path)

    def has(self, model):
        return any(row["model"] == model for row in self.rows.values())

    def row(self, *place):
        return self.rows.get(key(*place))

    def loss(self, *place):
        return (self.row(*place) or {}).get("eval_loss")

    def share(self, model, placement):
        """(Inputs + outputs of the adapted matrices) / (of all linear matrices): of the parameters, at equal rank."""
        counts = {row["placement"]: row["parameters"] for row in self.rows.values() if row["model"] == model and row["parameters"]}
        return counts[placement] / counts["all-linear"]

    def best(self, model, task, placement):
        """The rate of the least loss on the grid, and that loss."""
        found = [(self.loss(model, task, placement, rate), rate) for rate in RATES[model]]
        return min((pair for pair in found if pair[0] is not None), default=None)

    def loss_between(self, model, task, placement, rate):
        """The logarithm of the loss at any rate: straight lines between the grid's points, both axes logarithmic."""
        points = [
            (math.log(each), math.log(self.loss(model, task, placement, each)))
            for each in RATES[model]
            if self.loss(model, task, placement, each) is not None
        ]
        at = math.log(rate)
        below = max([index for index, point in enumerate(points[:-1]) if point[0] <= at], default=0)
        (x, y), (x1, y1) = points[below : below + 2]
        return y + (at - x) / (x1 - x) * (y1 - y)

    def rate_for(self, model, task, placement, loss):
        """The least rate whose loss is as low as `loss`."""
        for lower, upper in itertools.pairwise(RATES[model]):
            high, low = self.loss(model, task, placement, lower), self.loss(model, task, placement, upper)
            if high >= loss >= low:
                part = (math.log(high) - math.log(loss)) / (math.log(high) - math.log(low))
                return lower * (upper / lower) ** part
        return None

    def equal_progress(self, model):
        """p of rate ~ share^-p for the loss that all matrices reach at the grid's least rate."""
        points = []
        for task, placement in cells(model):
            if placement == "all-linear":
                continue
            wanted = self.loss(model, task, "all-linear", RATES[model][0])
            rate = self.rate_for(model, task, placement, wanted)
            if rate:
                points.append((math.log(1 / self.share(model, placement)), math.log(rate / RATES[model][0])))
        return sum(x * y for x, y in points) / sum(x * x for x, _ in points)

    def worst(self, model, base, exponent):
        """The most that any cell's loss is above its best, as a logarithm, with rate base * share^-exponent."""
        return max(
            self.loss_between(model, task, placement, base * self.share(model, placement) ** -exponent)
            - math.log(self.best(model, task, placement)[0])
            for task, placement in cells(model)
        )

    def rule(self, model):
        """Base and exponent whose worst cell is the least bad."""
        bases = [rate / 10000 for rate in range(5, 400, 5)]
        return min((self.worst(model, base, step / 20), base, step / 20) for base in bases for step in range(21))

    def base(self, model, exponent):
        """The base whose worst cell is the least bad, for an exponent."""
        bases = [rate / 20000 for rate in range(5, 400)]
        return min((self.worst(model, base, exponent), base) for base in bases)


def table(results, model, extra):
    lines = []
    for task in TASKS[model]:
        lines += [f"## {model}, {task}: loss after {COMMON['max_steps']} steps", ""]
        words = [word for word in extra if any(results.row(model, task, placement, word) for placement in PLACEMENTS[model])]
        lines.append("| adapted | share | " + " | ".join([f"{rate:g}" for rate in RATES[model]] + words) + " |")
        lines.append("| --- | --- |" + " --- |" * (len(RATES[model]) + len(words)))
        for placement in PLACEMENTS[model]:
            least = results.best(model, task, placement)
            texts = []
            for rate in [*RATES[model], *words]:
                row = results.row(model, task, placement, rate)
                if row is None:
                    texts.append("")
                    continue
                text = "diverged" if row["eval_loss"] is None else f"{row['eval_loss']:.3f}"
                if isinstance(rate, str):
                    text += f" ({row['learning_rate']:.2g})"
                elif least and rate == least[1]:
                    text = f"**{text}**"
                texts.append(text)
            lines.append(f"| {placement} | {results.share(model, placement):.3f} | " + " | ".join(texts) + " |")
        lines.append("")
    return lines


def report(results, extra):
    common = ", ".join(f"{name} {value}" for name, value in COMMON.items() if name != "save_steps")
    worst, base, exponent = results.rule(NARROW)
    lines = [
        "# Learning rate against placement and width",
        "",
        f"Made by `python3 Benchmarks/lora-note/learning_rate.py`: losses of {EVAL_ROWS} rows that were not trained, one seed, "
        f"{common}.",
        "*Share* is the adapted matrices' inputs + outputs over those of all linear matrices: the share of trainable parameters at",
        "equal rank. The least loss of a row is bold; a rate in brackets is the one that `auto` or `find` took.",
        "",
        *table(results, NARROW, extra),
    ]
    if results.has(WIDE):
        lines += table(results, WIDE, extra)
    lines += [
        "## What follows",
        "",
        f"- The loss that all matrices reach at {RATES[NARROW][0]:g} needs a rate ~ share^-{results.equal_progress(NARROW):.2f} "
        "(least squares, both tasks): at a low rate a small part learns much less.",
        f"- The best rate moves less: rate = {base:g} x share^-{exponent:.2f} keeps the worst cell of the embedded model's grid "
        f"least bad, {100 * (math.exp(worst) - 1):.0f} % above that cell's best loss.",
    ]
    if results.has(WIDE):
        loss, wide = results.base(WIDE, exponent)
        power = math.log(base / wide) / math.log(WIDTHS[WIDE] / WIDTHS[NARROW])
        lines += [
            f"- At width {WIDTHS[WIDE]} all matrices want {wide:g} ({100 * (math.exp(loss) - 1):.0f} % above the best "
            f"loss): between the two widths the rate goes with width^-{power:.2f}.",
        ]
    return "\n".join([*lines, ""])


class Loraq:
    def __init__(self, binaries, home):
        self.tool = str(Path(binaries).resolve() / "loraq")
        self.home = home

    def __call__(self, *arguments, check=True):
        done = subprocess.run([self.tool, "--home", self.home, *arguments], capture_output=True, text=True)
        if check and done.returncode:
            raise SystemExit(f"loraq {' '.join(arguments)}: {done.stderr}")
        return done.stdout.strip()


def measure(loraq, models, results, extra, scratch):
    loraq("up")
    try:
        for task in TASKS[NARROW]:
            lines = (SEEDLING / "tasks" / task / "eval.jsonl").read_text().splitlines()[:EVAL_ROWS]
            (scratch / f"{task}.jsonl").write_text("\n".join(lines) + "\n")
        for model, folder in models.items():
            loraq("models", "add", model, str(folder))
            for task, placement in cells(model):
                for rate in [*RATES[model], *extra]:
                    name = key(model, task, placement, rate)
                    if name not in results.rows:
                        results.add(name, train(loraq, model, task, placement, rate, scratch))
                        print(name, results.rows[name]["eval_loss"], flush=True)
    finally:
        loraq("down")


def train(loraq, model, task, placement, rate, scratch):
    fields = {**COMMON, **TARGETS[placement], "learning_rate": rate}
    settings = [part for field, value in fields.items() for part in ("--set", f"{field}={value}")]
    data = str(SEEDLING / "tasks" / task / "train.jsonl")
    job = loraq("finetune", model, data, "--eval", str(scratch / f"{task}.jsonl"), "--name", "note", *settings)
    state = json.loads(loraq("wait", job, "--json", check=False))
    result = state.get("result") or {}
    return {
        "model": model, "task": task, "placement": placement, "learning_rate": result.get("learning_rate"),
        "parameters": result.get("trainable_parameters", 0), "eval_loss": result.get("eval_loss_after"),
        "state": state["state"],
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", default=str(ROOT / ".build" / "release"))
    parser.add_argument("--home", help="a broker's folder of its own (default: a temporary one)")
    parser.add_argument("--wide", help="the folder of SmolLM2-135M-Instruct")
    parser.add_argument("--words", default="auto,find", help="rates by name to set beside the grid; empty: none")
    parser.add_argument("--again", default="", help="rates by name to run again though their results are there")
    parser.add_argument("--table", action="store_true", help="only write the table anew")
    options = parser.parse_args()
    extra = [word for word in options.words.split(",") if word]
    results = Results(HERE / "learning-rate.json")
    for word in filter(None, options.again.split(",")):
        results.rows = {name: row for name, row in results.rows.items() if not name.endswith(f"| {word}")}
    models = {NARROW: SEEDLING / "model"} | ({WIDE: options.wide} if options.wide else {})
    if not options.table:
        with tempfile.TemporaryDirectory(prefix="loraq-note-") as scratch:
            measure(Loraq(options.bin, options.home or f"{scratch}/home"), models, results, extra, Path(scratch))
    text = report(results, extra)
    (HERE / "learning-rate.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
