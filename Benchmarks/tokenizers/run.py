"""Encodes the same 10 MB of mixed text with loraq and with the `tokenizers` library, each on one thread, in turns.

    python Benchmarks/tokenizers/run.py TOKENIZER... [--worker BIN]

A TOKENIZER is a `tokenizer.json` or a model folder. Needs `tokenizers` in the Python that runs it. Neither side counts
reading, writing or loading. Prints the machine, MB/s of both (median of the rounds), their ratio, and whether all ids are equal.
"""

import argparse
import json
import os
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import time

import tokenizers

ROOT = pathlib.Path(__file__).resolve().parents[2]


def corpus(size: int) -> list[str]:
    """English prose, program text, and the many scripts of the tokenizers' test cases, in pieces of some kilobytes."""
    texts = [path.read_text() for path in sorted(ROOT.glob("docs/*.md"))]
    texts += [path.read_text() for path in sorted(ROOT.glob("Sources/*/*.swift"))[:150]]
    for path in sorted(ROOT.glob("Tests/TokenizationTests/Fixtures/*/cases.json")):
        texts += [case["text"] for case in json.loads(path.read_text())["cases"]]
    pieces = [piece for text in texts for piece in text.split("\n\n") if piece]
    chosen = random.Random(1)
    made: list[str] = []
    total = 0
    while total < size:
        made.append("\n\n".join(chosen.choice(pieces) for _ in range(6)))
        total += len(made[-1].encode())
    return made


def machine() -> str:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.machine()}, one thread, tokenizers {tokenizers.__version__}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizer", nargs="+", type=pathlib.Path)
    parser.add_argument("--worker", default=ROOT / ".build" / "release" / "lora-worker", type=pathlib.Path)
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--megabytes", default=10, type=int)
    options = parser.parse_args()
    # Read by the library when it encodes first.
    os.environ.update(RAYON_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    texts = corpus(options.megabytes * 1_000_000)
    size = sum(len(text.encode()) for text in texts)
    lines = "".join(json.dumps({"text": text, "add_special_tokens": False}) + "\n" for text in texts).encode()
    print(f"{machine()}; {size / 1e6:.1f} MB in {len(texts)} texts, median of {options.rounds} rounds in turns")
    print("| tokenizer | loraq MB/s | tokenizers MB/s | ratio | equal |")
    print("| --- | ---: | ---: | ---: | --- |")
    slower = 0
    for path in options.tokenizer:
        file = path / "tokenizer.json" if path.is_dir() else path
        library = tokenizers.Tokenizer.from_file(str(file))
        command = [options.worker, "tokenize", "--tokenizer", file, "--jsonl"]
        ours, theirs, ids = [], [], []
        for _ in range(options.rounds):
            start = time.perf_counter()
            ids = [library.encode(text, add_special_tokens=False).ids for text in texts]
            theirs.append(time.perf_counter() - start)
            done = subprocess.run([*command, "--rounds", "1"], input=lines, stdout=subprocess.PIPE, check=True)
            ours += json.loads(done.stdout)["seconds"]
        done = subprocess.run(command, input=lines, stdout=subprocess.PIPE, check=True)
        answers = [json.loads(line)["ids"] for line in done.stdout.splitlines()]
        rates = [size / 1e6 / statistics.median(times) for times in (ours, theirs)]
        equal = sum(a == b for a, b in zip(ids, answers, strict=True))
        slower += rates[0] < rates[1] or equal < len(texts)
        name = file.parent.name
        print(f"| {name} | {rates[0]:.1f} | {rates[1]:.1f} | {rates[0] / rates[1]:.2f} | {equal} of {len(texts)} |", flush=True)
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
