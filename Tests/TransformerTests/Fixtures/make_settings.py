"""Makes settings/: the case odd/ with other adapters, one for each way of PEFT to say what is adapted.

python make_settings.py (needs torch, transformers, peft, safetensors; reads odd/, which make_fixtures.py made).
"""

import pathlib
import shutil

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
SOURCE, OUT = HERE / "odd", HERE / "settings"
LIST = ["q_proj", "up_proj"]
SETTINGS = {
    "regex": {"target_modules": r".*\.(q|v)_proj"},
    "excluded": {"target_modules": "all-linear", "exclude_modules": r".*\.mlp\..*"},
    "layers-pattern": {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": "layers"},
    "one-layer": {"target_modules": LIST, "layers_to_transform": 0},
    "whole-path": {"target_modules": ["model.layers.1.self_attn.q_proj"]},
    "anchored": {"target_modules": "all-linear", "alpha_pattern": {"^model.layers.0.mlp.down_proj": 3, ".*v_proj": 5}},
    "biases": {"target_modules": LIST, "bias": "all"},
    "tied-embedding": {"target_modules": ["embed_tokens", "q_proj"], "ensure_weight_tying": True},
    "tied-saved": {"target_modules": LIST, "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    "both-saved": {"target_modules": LIST, "modules_to_save": ["embed_tokens", "lm_head"]},
    "dora-head": {"target_modules": ["lm_head", "q_proj"], "use_dora": True},
    "fan": {"target_modules": LIST, "fan_in_fan_out": True},
}


def model():
    return AutoModelForCausalLM.from_pretrained(SOURCE / "model", dtype=torch.float32)


def make(name: str, setting: dict, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    adapted = get_peft_model(model(), LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=4, **setting))
    for key, tensor in adapted.named_parameters():
        if not tensor.requires_grad:
            continue
        if "magnitude" in key:
            tensor.data.mul_(1 + 0.1 * torch.rand_like(tensor))
        elif "modules_to_save" in key:
            tensor.data.add_(0.02 * torch.randn_like(tensor))
        elif "lora_" in key:
            tensor.data.normal_(0, 0.05)
    adapted.save_pretrained(OUT / "adapter" / name)
    config = OUT / "adapter" / name / "adapter_config.json"
    config.write_text(config.read_text().replace(str(SOURCE / "model"), "odd"))
    loaded = PeftModel.from_pretrained(model(), OUT / "adapter" / name).eval()
    start = ids.shape[1] // 2
    with torch.no_grad():
        logits = loaded(ids).logits
        tokens = ids[:, :start]
        for _ in range(16):
            tokens = torch.cat([tokens, loaded(tokens).logits[:, -1].argmax(-1, keepdim=True)], 1)
    return {f"logits.{name}": logits.contiguous(), f"greedy.{name}": tokens[:, start:].contiguous()}


def main() -> None:
    torch.manual_seed(3)
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    expected = load_file(SOURCE / "expected.safetensors")
    variants = {path.name for path in (SOURCE / "adapter").iterdir()} - {"plain"}
    expected = {key: value for key, value in expected.items() if key.split(".", 1)[-1] not in variants}
    shutil.copytree(SOURCE, OUT, ignore=shutil.ignore_patterns("expected.safetensors", *variants))
    for name, setting in SETTINGS.items():
        expected |= make(name, setting, expected["input_ids"])
    expected = {key: value.clone() for key, value in expected.items()}
    save_file(expected, OUT / "expected.safetensors")
    for page in OUT.rglob("README.md"):
        page.unlink()


main()
