"""Writes shared.json: fine-tunes of a tiny llama by PEFT, with one B for k and v (`share_b`) and with LoRA+.

Run with torch, transformers and peft 0.21: python make_shared.py. k and v hold the very same parameter; rates come from PEFT's
`create_loraplus_optimizer`, clipping from `clip_grad_norm_`.
"""

import json
import pathlib

import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
MODEL = HERE.parent.parent / "TransformerTests" / "Fixtures" / "families" / "llama-bias" / "model"
STEPS, RATE, RATIO, CLIP, ROWS, LENGTH = 5, 2e-2, 4.0, 0.4, 4, 7


def run(share: bool, ratio: float) -> dict:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "k_proj", "v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(model, config)
    layers = [layer.self_attn for layer in model.base_model.model.model.layers]
    if share:
        for layer in layers:
            layer.v_proj.lora_B["default"].weight = layer.k_proj.lora_B["default"].weight
    start = {
        name.replace(".default", ""): value.detach().flatten().tolist()
        for name, value in model.named_parameters()
        if "lora_A" in name
    }
    optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=RATE, loraplus_lr_ratio=ratio)
    rows = torch.randint(0, 96, (ROWS, LENGTH), generator=torch.Generator().manual_seed(1))
    trained = [p for p in model.parameters() if p.requires_grad]
    losses, norms = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(trained, CLIP).item())
        losses.append(loss.item())
        optimizer.step()
    return {
        "share": share, "ratio": ratio, "start": start, "rows": rows.tolist(), "losses": losses, "norms": norms,
        "parameters": sum(p.numel() for p in trained),
        "b": {f"{index}.{name}": getattr(layer, name).lora_B["default"].weight.detach().flatten().tolist()
              for index, layer in enumerate(layers) for name in ("q_proj", "k_proj", "v_proj")},
    }  # fmt: skip


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.8g}")
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return value


cases = [run(True, 1.0), run(False, RATIO), run(True, RATIO)]
document = {"rate": RATE, "clip": CLIP, "steps": STEPS, "cases": cases}
(HERE / "shared.json").write_text(json.dumps(rounded(document)) + "\n")
