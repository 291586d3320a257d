"""The peers of loraq on the same rows: one eager PEFT training run and one transformers `generate`, both in bfloat16.

Run by `Benchmarks/jobs.py` in a Python that has torch, transformers and peft; prints one JSON object.
"""

import argparse
import json
import pathlib
import time

import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def read_rows(path: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def encoded(tokenizer, messages: list[dict], generation: bool) -> list[int]:
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def batch_of(tokenizer, rows: list[dict], pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Padded on the right; labels on the answer only."""
    ids, labels = [], []
    for row in rows:
        full = encoded(tokenizer, row["messages"], False)
        prompt = encoded(tokenizer, row["messages"][:-1], True)
        ids.append(full)
        labels.append([-100] * len(prompt) + full[len(prompt) :])
    width = max(map(len, ids))
    mask = torch.tensor([[1] * len(x) + [0] * (width - len(x)) for x in ids])
    padded = torch.tensor([x + [pad] * (width - len(x)) for x in ids])
    wanted = torch.tensor([x + [-100] * (width - len(x)) for x in labels])
    return padded, mask, wanted


def train(arguments, tokenizer) -> dict:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.bfloat16)
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS, task_type="CAUSAL_LM"))
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=5e-4, weight_decay=0.0)
    rows = read_rows(arguments.train)
    size, tokens, seconds, losses = arguments.batch, 0, 0.0, []
    for step in range(arguments.steps + 1):
        start = (step * size) % len(rows)
        ids, mask, labels = batch_of(tokenizer, rows[start : start + size], tokenizer.eos_token_id)
        began = time.perf_counter()
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step > 0:  # the first step warms up
            seconds += time.perf_counter() - began
            tokens += int(mask.sum())
        losses.append(float(loss))
    return {"tokens_per_second": tokens / seconds, "tokens": tokens, "seconds": seconds, "last_loss": losses[-1]}


def generate(arguments, tokenizer) -> dict:
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.bfloat16).eval()
    tokenizer.padding_side = "left"
    rows = read_rows(arguments.prompts)
    texts = [tokenizer.apply_chat_template(row["body"]["messages"], tokenize=False, add_generation_prompt=True) for row in rows]
    produced, seconds = 0, 0.0
    for start in range(0, len(texts), arguments.rows):
        chunk = tokenizer(texts[start : start + arguments.rows], return_tensors="pt", padding=True, add_special_tokens=False)
        began = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(**chunk, max_new_tokens=arguments.new_tokens, min_new_tokens=arguments.new_tokens, do_sample=False)
        seconds += time.perf_counter() - began
        produced += out[:, chunk["input_ids"].shape[1] :].numel()
    return {"tokens_per_second": produced / seconds, "tokens": produced, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", choices=["train", "generate"])
    parser.add_argument("--model", required=True)
    parser.add_argument("--train", type=pathlib.Path)
    parser.add_argument("--prompts", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=64)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    figure = (train if arguments.work == "train" else generate)(arguments, tokenizer)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({**figure, "versions": versions}))


if __name__ == "__main__":
    main()
