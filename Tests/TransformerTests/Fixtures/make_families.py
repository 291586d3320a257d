#!/usr/bin/env python3
"""Writes reference cases of families and settings: tiny models, adapters, and what transformers + PEFT compute.

    pip install torch transformers peft safetensors
    python make_families.py OUT [NAME...]

Float32 on one thread, from weights rounded to bf16; the form is that of `lora-worker verify`. `families/rope-*` and
`families/phi3-longrope` beside this file are made by it; other settings can be added to `CASES` when they are needed.
"""
import json, os, shutil, sys
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

SMALL = dict(vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.15, bos_token_id=1, eos_token_id=2,
             pad_token_id=0)
SHORT = dict(short_factor=[1.0, 1.1, 1.3, 1.5], long_factor=[1.0, 2.5, 6.0, 20.0])
# name: (model_type, config, tokens)
CASES = {
    "rope-yarn": ("qwen2", dict(SMALL, tie_word_embeddings=True, rope_theta=1000.0, rope_scaling=dict(
        type="yarn", factor=4.0, original_max_position_embeddings=32)), 20),
    # The second half of every row, and of what is generated after the first, is longer than the original length.
    "rope-longrope": ("llama", dict(SMALL, tie_word_embeddings=False, rope_parameters=dict(
        rope_type="longrope", rope_theta=1000.0, original_max_position_embeddings=16, **SHORT)), 24),
    # Phi-4-mini's parts together: joined matrices, three quarters rotated, long factors, a window, a tied head.
    "phi3-longrope": ("phi3", dict(
        SMALL, tie_word_embeddings=True, sliding_window=7, partial_rotary_factor=0.75, rope_theta=1000.0,
        original_max_position_embeddings=16, rope_scaling=dict(
            type="longrope", short_factor=[1.0, 1.2, 1.5], long_factor=[1.0, 3.0, 12.0])), 24),
}


def targets(kind):
    if kind == "phi3": return ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
    return ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def variants(kind):
    adapter = lambda **k: LoraConfig(
        task_type="CAUSAL_LM", **{**dict(r=4, lora_alpha=8, target_modules=targets(kind)), **k})
    result = {"plain": adapter(), "rslora": adapter(use_rslora=True, r=3),
              "attention": adapter(r=2, target_modules=targets(kind)[:1])}
    if kind == "phi3": result["dora"] = adapter(use_dora=True)
    return result


def make(out, name, kind, fields, length):
    folder = os.path.join(out, name)
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(11)
    config = AutoConfig.for_model(kind, **json.loads(json.dumps(fields)))
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for _, p in model.named_parameters():
            if p.dim() == 1: p.add_(torch.randn_like(p) * 0.1)
    model.to(torch.bfloat16).save_pretrained(folder + "/model")
    fresh = lambda: AutoModelForCausalLM.from_pretrained(
        folder + "/model", dtype=torch.float32, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(12)
    draw = lambda: torch.randint(3, config.vocab_size, (2, length), generator=generator)
    ids = draw()
    labels = ids.clone(); labels[0, :7] = -100; labels[1, :11] = -100
    expected = {"input_ids": ids, "labels": labels}

    def loss_of(model, ids, labels):
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        return torch.nn.functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), ignore_index=-100)

    def record(model, variant, key):
        with torch.no_grad():
            expected[key] = model(input_ids=ids, use_cache=False).logits.contiguous()
            x = ids[:, :length // 2]
            for _ in range(16):
                x = torch.cat([x, model(input_ids=x, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)], 1)
            expected["greedy." + variant] = x[:, length // 2:].contiguous()

    record(fresh(), "base", "logits")
    for variant, setting in variants(kind).items():
        torch.manual_seed(13)
        adapted = get_peft_model(fresh(), setting)
        for n, p in adapted.named_parameters():
            if p.requires_grad and ("lora_B" in n or "lora_embedding_A" in n): torch.nn.init.normal_(p, std=0.08)
            if p.requires_grad and "magnitude" in n: p.data.mul_(1 + torch.randn_like(p) * 0.1)
        adapted.eval().save_pretrained(f"{folder}/adapter/{variant}")
        record(adapted, variant, "logits." + variant)
        if variant == "plain":
            loss = loss_of(adapted, ids, labels); loss.backward()
            expected["loss"] = loss.detach().reshape(1)
            for n, p in adapted.named_parameters():
                if p.grad is not None: expected["grad." + n.replace(".default", "")] = p.grad.contiguous()
    save_file(expected, folder + "/expected.safetensors")
    trained = PeftModel.from_pretrained(fresh(), folder + "/adapter/plain", is_trainable=True)
    parameters = [p for p in trained.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=5e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    steps = []
    for step in range(12):
        rate = 5e-3 * min((step + 1) / 3, (12 - step) / 9 if step >= 3 else 1.0)
        for group in optimizer.param_groups: group["lr"] = rate
        batch = draw() if step % 4 == 0 else batch
        batch_labels = batch.clone(); batch_labels[:, :5] = -100
        loss = loss_of(trained, batch, batch_labels)
        optimizer.zero_grad(); loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0); optimizer.step()
        steps.append(dict(step=step, learning_rate=rate, input_ids=batch.tolist(), labels=batch_labels.tolist(),
                          loss=loss.item(), grad_norm=norm.item()))
    json.dump(dict(optimizer=dict(name="adamw", betas=[0.9, 0.999], eps=1e-8, weight_decay=0.01, max_grad_norm=1.0),
                   steps=steps), open(folder + "/train.json", "w"))
    trained.save_pretrained(folder + "/trained")
    # The fields as they were given, in whatever spelling: transformers has read them, and so must the engine.
    written = json.load(open(folder + "/model/config.json"))
    derived = ("rope_parameters", "rope_scaling", "rope_theta", "layer_types", "no_rope_layers", "num_key_value_heads")
    written = {k: v for k, v in written.items() if k not in derived}
    json.dump({**written, **fields}, open(folder + "/model/config.json", "w"), indent=2)
    for root, _, files in os.walk(folder):
        for file in files:
            path = os.path.join(root, file)
            if file in ("README.md", "generation_config.json"): os.remove(path)
            if file == "adapter_config.json":
                config = json.load(open(path)); config["base_model_name_or_path"] = name
                json.dump(config, open(path, "w"), indent=2, sort_keys=True)
    print(name, "loss", round(expected["loss"].item(), 4), "train", round(steps[0]["loss"], 3), "->", round(steps[-1]["loss"], 3))


def main():
    torch.set_num_threads(1)
    for name in sys.argv[2:] or CASES: make(sys.argv[1], name, *CASES[name])


if __name__ == "__main__":
    main()
