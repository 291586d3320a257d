"""Where PEFT itself parts from `examples/seedling/reference.json` on this machine.

    python Benchmarks/seedling_reference.py [--threads N]

Trains from `adapters/initial` with the reference's own recipe, in float32, and prints the first step whose loss is more
than 1e-3 away and the greatest distance. Needs torch, transformers and peft.
"""

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "examples" / "seedling"))

import measure_seedling as seedling
import peft
import torch
import transformers


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    tokenizer = transformers.AutoTokenizer.from_pretrained(seedling.HERE / "model")
    for task, reference in json.loads((seedling.HERE / "reference.json").read_text())["tasks"].items():
        base = transformers.AutoModelForCausalLM.from_pretrained(seedling.HERE / "model", dtype=torch.float32)
        model = peft.PeftModel.from_pretrained(base, seedling.HERE / "adapters" / "initial", is_trainable=True)
        here = seedling.fine_tune(model, tokenizer, task, lambda line: None)["losses"]
        apart = [abs(a - b) for a, b in zip(here, reference["losses"], strict=True)]
        first = next((step + 1 for step, distance in enumerate(apart) if distance > 1e-3), "none")
        print(f"{task}: {len(apart)} steps, first more than 1e-3 away: {first}, greatest {max(apart):.4f}", flush=True)


if __name__ == "__main__":
    main()
