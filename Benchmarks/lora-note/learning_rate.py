#!/usr/bin/env python3
"""How the best learning rate depends on which matrices are adapted, and on the width of the model.

    python3 Benchmarks/lora-note/learning_rate.py [--bin .build/release] [--home FOLDER] [--wide FOLDER]

Trains adapters of the embedded model (examples/seedling) with every rate of a grid, for placements from all linear
matrices down to one kind of matrix or one layer, and writes the evaluation losses to learning-rate.json and
learning-rate.md beside this file. Runs that learning-rate.json has already are not repeated; range-test.json holds the curves of
`learning_rate: find` for the same placements, on which rules of choosing from them are compared. With --wide, the folder of
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
CURVES = HERE / "range-test.json"


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
        """Whether enough is measured to say something of a model."""
        return sum(row["model"] == model for row in self.rows.values()) >= 3

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

    def automatic(self):
        """How far the rates of `learning_rate: auto` are from the best ones, on average and at worst, as logarithms."""
        above = [
            self.loss_between(NARROW, task, placement, 0.01 * min(2, self.share(NARROW, placement) ** -0.25))
            - math.log(self.best(NARROW, task, placement)[0])
            for task, placement in cells(NARROW)
        ]
        return sum(above) / len(above), max(above)

    def base(self, model, exponent):
        """The base whose worst cell is the least bad, for an exponent."""
        bases = [rate / 20000 for rate in range(5, 400)]
        return min((self.worst(model, base, exponent), base) for base in bases)


def smoothed(curve):
    """Running means as `RateCurve` makes them."""
    mean, means = 0.0, []
    for index, (_, relative) in enumerate(curve):
        mean = 0.8 * mean + 0.2 * relative
        means.append(mean / (1 - 0.8 ** (index + 1)))
    return means


def lowest(curve):
    means = smoothed(curve)
    return means.index(min(means))


def steepest(curve):
    means = smoothed(curve)
    return max(range(1, max(2, lowest(curve))), key=lambda index: means[index - 1] - means[index + 1])


#: Ways to take a rate from a range test.
RULES = {
    "steepest descent": lambda curve: curve[steepest(curve)][0],
    "lowest": lambda curve: curve[lowest(curve)][0],
    "half of the lowest": lambda curve: curve[lowest(curve)][0] / 2,
    "a third of the lowest": lambda curve: curve[lowest(curve)][0] / 3,
}


def rules(results, curves):
    lines = ["| a range test's | mean above the best loss | worst |", "| --- | --- | --- |"]
    for name, rule in RULES.items():
        above = [
            results.loss_between(NARROW, task, placement, rule(curves[f"{task} | {placement}"]))
            - math.log(results.best(NARROW, task, placement)[0])
            for task, placement in cells(NARROW)
        ]
        mean = math.exp(sum(above) / len(above)) - 1
        lines.append(f"| {name} | {100 * mean:.0f} % | {100 * (math.exp(max(above)) - 1):.0f} % |")
    return lines


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
    mean, most = results.automatic()
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
        f"- `auto` takes 0.01 x min(2, share^-0.25) at this width: {100 * (math.exp(mean) - 1):.0f} % above the best losses on "
        f"average, {100 * (math.exp(most) - 1):.0f} % at worst.",
    ]
    if results.has(WIDE):
        loss, wide = results.base(WIDE, exponent)
        power = math.log(base / wide) / math.log(WIDTHS[WIDE] / WIDTHS[NARROW])
        lines += [
            f"- At width {WIDTHS[WIDE]} all matrices want {wide:g} ({100 * (math.exp(loss) - 1):.0f} % above the best "
            f"loss): between the two widths the rate goes with width^-{power:.2f}.",
        ]
    if CURVES.exists():
        lines += [
            "",
            "## Range tests",
            "",
            "`learning_rate: find` on the same cells: the loss at the rate that each rule takes, between the grid's points by",
            "straight lines in logarithms.",
            "",
            *rules(results, json.loads(CURVES.read_text())),
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


def measure_curves(loraq):
    """The range test of every cell, by `loraq plan`."""
    loraq("up")
    try:
        loraq("models", "add", NARROW, str(SEEDLING / "model"))
        curves = {}
        for task, placement in cells(NARROW):
            fields = {**COMMON, **TARGETS[placement], "learning_rate": "find"}
            settings = [part for field, value in fields.items() for part in ("--set", f"{field}={value}")]
            data = str(SEEDLING / "tasks" / task / "train.jsonl")
            plan = json.loads(loraq("plan", "finetune", NARROW, data, *settings, "--json"))
            points = plan["learning_rate_choice"]["curve"]
            curves[f"{task} | {placement}"] = [
                [float(f"{point['learning_rate']:.4g}"), float(f"{point['relative_loss']:.5g}")] for point in points
            ]
        body = ",\n".join(f" {json.dumps(name)}: {json.dumps(curve)}" for name, curve in curves.items())
        CURVES.write_text("{\n" + body + "\n}\n")
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
            loraq = Loraq(options.bin, options.home or f"{scratch}/home")
            measure(loraq, models, results, extra, Path(scratch))
            if not CURVES.exists():
                measure_curves(loraq)
    text = report(results, extra)
    (HERE / "learning-rate.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
