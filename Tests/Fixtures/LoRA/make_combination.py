"""Writes combination.json: two adapters of a tiny model and what PEFT's `add_weighted_adapter` makes of them.

Run with torch, transformers and peft 0.21: python make_combination.py. `cases` hold, per matrix, the update
ΔW (`get_delta_weight`, row-major, [outputs, inputs] of a linear and [tokens, width] of the embedding).
"""

import json
import pathlib

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
MODEL = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=12, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        tie_word_embeddings=False,
    )
)  # fmt: skip
CONFIGS = {
    "a": LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "down_proj", "embed_tokens"], task_type="CAUSAL_LM"),
    "b": LoraConfig(
        r=2, lora_alpha=5, target_modules=["q_proj", "o_proj"], use_rslora=True, task_type="CAUSAL_LM",
        rank_pattern={"layers.1.self_attn.q_proj": 4}, alpha_pattern={"o_proj": 3},
    ),
}  # fmt: skip


def numbers(tensor: torch.Tensor) -> list[float]:
    return [round(value, 6) for value in tensor.detach().double().flatten().tolist()]


def layers(model, adapter: str):
    """Every adapted module: path without PEFT's prefix, and the layer."""
    for path, module in model.named_modules():
        if hasattr(module, "lora_A") and (adapter in module.lora_A or adapter in module.lora_embedding_A):
            yield path.removeprefix("base_model.model."), module


def adapter_object(model, name: str) -> dict:
    config = {key: sorted(value) if isinstance(value, set) else value for key, value in CONFIGS[name].to_dict().items()}
    config["peft_type"], config["task_type"] = "LORA", "CAUSAL_LM"
    tensors = {}
    for path, module in layers(model, name):
        if name in module.lora_A:
            parts = {"lora_A.weight": module.lora_A[name].weight, "lora_B.weight": module.lora_B[name].weight}
        else:
            parts = {"lora_embedding_A": module.lora_embedding_A[name], "lora_embedding_B": module.lora_embedding_B[name]}
        for ending, tensor in parts.items():
            tensors[f"base_model.model.{path}.{ending}"] = {"shape": list(tensor.shape), "values": numbers(tensor)}
    return {"config": config, "tensors": tensors}


def main() -> None:
    model = get_peft_model(MODEL, CONFIGS["a"], adapter_name="a")
    model.add_adapter("b", CONFIGS["b"])
    with torch.no_grad():
        for name in CONFIGS:
            for _, module in layers(model, name):
                for group in ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"):
                    values = getattr(module, group)
                    if name in values:
                        tensor = values[name].weight if hasattr(values[name], "weight") else values[name]
                        tensor.copy_((torch.randn(tensor.shape) * 0.5).round(decimals=4))
    tuner = model.base_model
    plans = {
        "cat": {"adapters": ["a", "b"], "weights": [0.7, -0.3], "combination_type": "cat"},
        "svd": {"adapters": ["a", "b"], "weights": [0.7, 0.3], "combination_type": "svd", "svd_rank": 2},
        "linear": {"adapters": ["a"], "weights": [0.25], "combination_type": "linear"},
    }
    cases = {}
    for name, plan in plans.items():
        tuner.add_weighted_adapter(adapter_name=name, **plan)
        cases[name] = plan | {"updates": {path: numbers(module.get_delta_weight(name)) for path, module in layers(model, name)}}
    data = {"adapters": {name: adapter_object(model, name) for name in CONFIGS}, "cases": cases}
    target = pathlib.Path(__file__).with_name("combination.json")
    target.write_text(json.dumps(data, separators=(",", ":"), default=str) + "\n")
    print(target, target.stat().st_size)


if __name__ == "__main__":
    main()
