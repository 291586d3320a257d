#!/usr/bin/env python3
"""A merged model as GGUF beside PEFT: logits of the file as transformers (through gguf-py) reads it.

    python3 Benchmarks/lora-note/merged_gguf.py MODEL_FOLDER [--bin .build/release] [--llama-bench PATH]

Needs torch, transformers, peft and gguf. Makes a random adapter on q, k, down_proj and the embedding (so that a tied head is
untied), exports it merged with `loraq adapters export --merged --gguf` in three types, and prints how far the logits of each are
from PEFT's unmerged ones.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = "The capital of France is Paris. 1234 + 5678 = 6912. def f(x): return x"


def make_adapter(model, folder):
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    targets = ["q_proj", "k_proj", "down_proj", "embed_tokens"]
    adapted = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM"))
    for name, values in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(values, std=0.02)
    adapted.save_pretrained(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--bin", default=str(ROOT / ".build" / "release"))
    parser.add_argument("--llama-bench", help="llama.cpp's llama-bench, to run the file there too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="loraq-note-") as scratch:
        tool = [str(Path(options.bin).resolve() / "loraq"), "--home", f"{scratch}/home"]
        make_adapter(options.model, f"{scratch}/adapter")
        subprocess.run([*tool, "up"], check=True)
        try:
            subprocess.run([*tool, "models", "add", "base", options.model], check=True)
            subprocess.run([*tool, "adapters", "add", "a", f"{scratch}/adapter", "--model", "base"], check=True)
            compare(tool, scratch, options)
        finally:
            subprocess.run([*tool, "down"], check=False)


def compare(tool, scratch, options):
    base = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    ids = torch.tensor([tokenizer.encode(TEXT)])
    with torch.no_grad():
        expected = PeftModel.from_pretrained(base, f"{scratch}/adapter").eval()(ids).logits
        for dtype in ("float32", "float16", "bfloat16"):
            out = f"{scratch}/{dtype}"
            export = ["adapters", "export", "base:a", out, "--merged", "--gguf", "--dtype", dtype]
            subprocess.run([*tool, *export], check=True)
            read = AutoModelForCausalLM.from_pretrained(out, gguf_file="model.gguf", dtype=torch.float32).eval()
            found = read(ids).logits
            again = AutoTokenizer.from_pretrained(out, gguf_file="model.gguf").encode(TEXT)
            same = (found.argmax(-1) == expected.argmax(-1)).float().mean().item()
            print(
                f"{dtype}: logits within {(found - expected).abs().max().item():.2g} of {expected.abs().max().item():.3g}, "
                f"same likeliest token {100 * same:.0f} %, same ids {again == ids[0].tolist()}",
                flush=True,
            )
            if options.llama_bench:
                model = f"{out}/model.gguf"
                subprocess.run([options.llama_bench, "-m", model, "-p", "8", "-n", "2", "-r", "1"], check=True)


if __name__ == "__main__":
    main()
