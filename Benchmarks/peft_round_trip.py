"""Trains adapters with loraq, loads them with PEFT, and compares what both compute.

    python Benchmarks/peft_round_trip.py [--bin .build/release] [--work FOLDER]

A base with biases is made from `examples/seedling`; on it and on the tied seedling itself each recipe is trained for some
steps in float32, exported, loaded by `PeftModel.from_pretrained`, and the log probabilities of all tokens of some rows are
compared with loraq's own, and with those of the export merged into the base, loaded by transformers: the greatest distance
over the largest. Needs torch, transformers and peft. Exit code 1 if any is more than 1e-4.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import peft
import torch
import transformers

SEEDLING = pathlib.Path(__file__).resolve().parents[1] / "examples" / "seedling"
RECIPES = {
    "dora": {"use_dora": True},
    "bias-all": {"bias": "all"},
    "bias-lora": {"bias": "lora_only", "use_dora": True, "target_modules": ["q_proj", "down_proj"]},
    "saved": {"target_modules": ["v_proj"], "modules_to_save": ["embed_tokens", "lm_head"], "lora_dropout": 0.1},
    "embedding": {"target_modules": ["o_proj", "embed_tokens", "lm_head"], "lora_dropout": 0.2},
}


def biased(folder):
    """The seedling with biases in every projection, as a checkpoint of its own."""
    config = transformers.AutoConfig.from_pretrained(SEEDLING / "model", attention_bias=True, mlp_bias=True)
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.load_state_dict(
        transformers.AutoModelForCausalLM.from_pretrained(SEEDLING / "model").state_dict(), strict=False)
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            torch.nn.init.normal_(parameter, std=0.05)
    model.to(torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SEEDLING / "model" / name, folder)
    return folder


def scores(base, adapter, rows):
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = (peft.PeftModel.from_pretrained(model, adapter) if adapter else model).eval()
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([row])
            logs = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
            yield logs.gather(1, ids[0, 1:, None])[:, 0].tolist()


def distance(a, b):
    pairs = [pair for r, s in zip(a, b, strict=True) for pair in zip(r, s, strict=True)]
    return max(abs(x - y) for x, y in pairs) / max(abs(y) for _, y in pairs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bin", default=".build/release")
    parser.add_argument("--work", default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = pathlib.Path(options.work or tempfile.mkdtemp(prefix="peft-round-trip-"))
    work.mkdir(parents=True, exist_ok=True)
    home = dict(os.environ, LORAQ_HOME=str(work / "home"))

    def loraq(*words):
        command = [options.bin + "/loraq", *map(str, words)]
        return subprocess.run(command, env=home, check=True, capture_output=True, text=True).stdout

    tokenizer = transformers.AutoTokenizer.from_pretrained(SEEDLING / "model")
    train = SEEDLING / "tasks" / "redact" / "train.jsonl"
    rows = [tokenizer(json.loads(line)["messages"][0]["content"])["input_ids"]
            for line in train.read_text().splitlines()[:6]]
    worst = 0.0
    loraq("up")
    try:
        for model, folder in {"plain": SEEDLING / "model", "biased": biased(work / "biased")}.items():
            loraq("models", "add", model, folder, "--dtype", "float32")
            for name, fields in RECIPES.items():
                if model == "plain" and name.startswith("bias"):
                    continue
                recipe = work / f"{name}.json"
                recipe.write_text(json.dumps(dict(
                    r=4, lora_alpha=8, learning_rate=3e-3, max_steps=8, per_device_train_batch_size=4, seed=1, **fields)))
                loraq("finetune", model, train, "--name", name, "--recipe", recipe, "--wait")
                loraq("adapters", "export", f"{model}:{name}", work / f"{model}-{name}")
                lines = work / "lines.jsonl"
                lines.write_text("".join(json.dumps(dict(
                    custom_id=str(index), method="POST", url="/v1/completions",
                    body=dict(model=f"{model}:{name}", prompt=row, max_tokens=0, echo=True, logprobs=1))) + "\n"
                    for index, row in enumerate(rows)))
                out = work / f"{model}-{name}.jsonl"
                loraq("batch", lines, "--wait", "--ordered", "-o", out)
                ours = [json.loads(line)["response"]["body"]["choices"][0]["logprobs"]["token_logprobs"][1:]
                        for line in out.read_text().splitlines()]
                theirs = list(scores(folder, work / f"{model}-{name}", rows))
                loraq("adapters", "export", f"{model}:{name}", work / f"{model}-{name}-merged", "--merged")
                apart, merged = distance(ours, theirs), distance(
                    list(scores(work / f"{model}-{name}-merged", None, rows)), theirs)
                worst = max(worst, apart, merged)
                print(f"{model}:{name}: {sum(map(len, ours))} tokens, greatest distance {apart:.2e}, merged {merged:.2e}",
                      flush=True)
    finally:
        loraq("down")
    sys.exit(worst > 1e-4)


if __name__ == "__main__":
    main()
