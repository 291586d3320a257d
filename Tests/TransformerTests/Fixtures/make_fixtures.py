#!/usr/bin/env python3
"""Writes the reference cases of these tests: two tiny Llama models, adapters, and what transformers + PEFT compute.

    pip install torch transformers peft safetensors
    python make_fixtures.py [OUT]

Float32 on one thread, from weights rounded to bf16. `even` has matrices of whole panels, grouped heads, Llama 3's
rotation and an untied head; `odd` has sizes that are multiples of nothing, one key/value head and a tied head.
"""
import json, os, shutil, sys
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
MODELS = {
    "even": dict(vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, head_dim=16, max_position_embeddings=256, initializer_range=0.15,
                 tie_word_embeddings=False,
                 rope_parameters=dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0,
                                      high_freq_factor=4.0, original_max_position_embeddings=32)),
    "odd": dict(vocab_size=70, hidden_size=30, intermediate_size=44, num_hidden_layers=2, num_attention_heads=3,
                num_key_value_heads=1, head_dim=10, max_position_embeddings=256, initializer_range=0.15,
                tie_word_embeddings=True),
}


def variants():
    config = lambda **k: LoraConfig(task_type="CAUSAL_LM", **{**dict(r=3, lora_alpha=6, target_modules=TARGETS), **k})
    return {
        "plain": config(),
        "rslora": config(use_rslora=True, r=4, target_modules=["q_proj", "v_proj"]),
        "patterns": config(rank_pattern={"q_proj": 5, r"layers\.1\.mlp\.down_proj": 2}, alpha_pattern={"q_proj": 9}),
        "some-layers": config(layers_to_transform=[1], target_modules=["k_proj", "down_proj"]),
        "dora": config(use_dora=True),
        "embedding": config(target_modules=["up_proj", "embed_tokens", "lm_head"]),
        "head-saved": config(target_modules=["o_proj"], modules_to_save=["lm_head"]),
    }


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    torch.set_num_threads(1)
    length = 20
    for name, shape in MODELS.items():
        folder = os.path.join(out, name)
        shutil.rmtree(folder, ignore_errors=True)
        torch.manual_seed(3)
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model("llama", bos_token_id=1, eos_token_id=2, **shape), attn_implementation="eager")
        with torch.no_grad():
            for _, p in model.named_parameters():
                if p.dim() == 1: p.add_(torch.randn_like(p) * 0.1)
        model.to(torch.bfloat16).save_pretrained(folder + "/model")
        fresh = lambda: AutoModelForCausalLM.from_pretrained(
            folder + "/model", dtype=torch.float32, attn_implementation="eager").eval()
        generator = torch.Generator().manual_seed(4)
        ids = torch.randint(3, shape["vocab_size"], (2, length), generator=generator)
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
        for variant, config in variants().items():
            torch.manual_seed(5)
            adapted = get_peft_model(fresh(), config)
            for n, p in adapted.named_parameters():
                if p.requires_grad and ("lora_B" in n or "lora_embedding_A" in n): torch.nn.init.normal_(p, std=0.08)
                if p.requires_grad and "modules_to_save" in n: p.data.add_(torch.randn_like(p) * 0.02)
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
        for step in range(6):
            rate = 5e-3 * min((step + 1) / 2, (6 - step) / 4)
            for group in optimizer.param_groups: group["lr"] = rate
            batch = torch.randint(3, shape["vocab_size"], (2, length), generator=generator)
            batch_labels = batch.clone(); batch_labels[:, :5] = -100
            loss = loss_of(trained, batch, batch_labels)
            optimizer.zero_grad(); loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0); optimizer.step()
            steps.append(dict(step=step, learning_rate=rate, input_ids=batch.tolist(), labels=batch_labels.tolist(),
                              loss=loss.item(), grad_norm=norm.item()))
        json.dump(dict(optimizer=dict(name="adamw", betas=[0.9, 0.999], eps=1e-8, weight_decay=0.01, max_grad_norm=1.0),
                       steps=steps), open(folder + "/train.json", "w"))
        trained.save_pretrained(folder + "/trained")
        for root, _, files in os.walk(folder):
            for file in files:
                path = os.path.join(root, file)
                if file in ("README.md", "generation_config.json"): os.remove(path)
                if file == "adapter_config.json":
                    config = json.load(open(path)); config["base_model_name_or_path"] = name
                    json.dump(config, open(path, "w"), indent=2, sort_keys=True)


if __name__ == "__main__":
    main()
