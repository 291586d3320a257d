#!/usr/bin/env python3
"""Writes reference cases of families and settings: tiny models, adapters, and what transformers + PEFT compute.

    pip install torch transformers peft safetensors
    python make_families.py OUT [NAME...]    # names of CASES, TRAINED or HARDER, `harder` for all of these

Float32 on one thread, from weights rounded to bf16; the form is that of `lora-worker verify`. `families/rope-*`,
`families/phi3-longrope` and those of TRAINED beside this file are made by it; the harder ones are too large to be kept.
"""
import contextlib, json, os, shutil, sys
import numpy as np
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

# Sizes that are multiples of nothing, one key/value head, rows longer than windows and than a block of attention (64), and
# every field that changes the computation; the fields are spelled as older and newer files do.
ODD = dict(SMALL, vocab_size=101, hidden_size=60, intermediate_size=92, num_hidden_layers=3, num_attention_heads=5,
           num_key_value_heads=1, max_position_embeddings=512)
HARDER = {
    "gemma2-odd": ("gemma2", dict(ODD, head_dim=14, num_hidden_layers=5, sliding_window=5, attn_logit_softcapping=1.5,
        final_logit_softcapping=2.5, query_pre_attn_scalar=10, hidden_activation="gelu_pytorch_tanh",
        hidden_act="gelu_pytorch_tanh", cache_implementation="hybrid"), 40),
    "gemma2-nocaps": ("gemma2", dict(ODD, head_dim=16, num_hidden_layers=3, sliding_window=9, attn_logit_softcapping=None,
        final_logit_softcapping=None, layer_types=["full_attention", "sliding_attention", "sliding_attention"],
        tie_word_embeddings=False), 70),
    "gemma3-odd": ("gemma3_text", dict(ODD, head_dim=18, num_hidden_layers=7, sliding_window=4, sliding_window_pattern=3,
        query_pre_attn_scalar=12, rope_theta=5000.0, rope_local_base_freq=300.0, rope_scaling=dict(factor=4.0,
        rope_type="linear"), final_logit_softcapping=3.0), 75),
    "gemma3-yarn": ("gemma3_text", dict(ODD, head_dim=16, num_hidden_layers=3, sliding_window=12,
        layer_types=["sliding_attention", "full_attention", "full_attention"],
        rope_parameters=dict(full_attention=dict(rope_type="yarn", rope_theta=5000.0, factor=4.0,
        original_max_position_embeddings=32), sliding_attention=dict(rope_type="default", rope_theta=100.0))), 40),
    "mistral-odd": ("mistral", dict(ODD, sliding_window=7, head_dim=22), 90),
    "mistral-none": ("mistral", dict(ODD, sliding_window=None, hidden_act="gelu"), 30),
    "qwen2-window": ("qwen2", dict(ODD, use_sliding_window=True, sliding_window=6, max_window_layers=1,
        tie_word_embeddings=True, rope_theta=700.0), 80),
    "qwen2-types": ("qwen2", dict(ODD, use_sliding_window=True, sliding_window=3, max_window_layers=28,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"]), 40),
    "qwen2-ignoredwindow": ("qwen2", dict(ODD, use_sliding_window=False, sliding_window=3, max_window_layers=0), 40),
    "qwen3-odd": ("qwen3", dict(ODD, head_dim=20, rope_theta=1e6, rope_scaling=dict(type="yarn", factor=2.0,
        original_max_position_embeddings=256)), 70),
    "qwen3-window": ("qwen3", dict(ODD, head_dim=6, use_sliding_window=True, sliding_window=11, max_window_layers=2), 70),
    "granite-odd": ("granite", dict(ODD, embedding_multiplier=11.5, attention_multiplier=0.02, residual_multiplier=0.22,
        logits_scaling=7.0, tie_word_embeddings=True, rope_scaling=dict(type="dynamic", factor=2.0)), 45),
    "olmo2-odd": ("olmo2", dict(ODD, rope_scaling=dict(rope_type="linear", factor=3.0), hidden_act="gelu_new"), 66),
    "smollm3-odd": ("smollm3", dict(ODD, no_rope_layer_interval=2, num_hidden_layers=5, rope_theta=3000.0), 45),
    "smollm3-window": ("smollm3", dict(ODD, no_rope_layers=[0, 1, 1], use_sliding_window=True, sliding_window=5,
        layer_types=["full_attention", "sliding_attention", "full_attention"]), 45),
    "llama-llama3": ("llama", dict(ODD, rope_theta=500000.0, rope_scaling=dict(rope_type="llama3", factor=8.0,
        low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64), head_dim=64, num_attention_heads=5,
        hidden_act="gelu_pytorch_tanh", rms_norm_eps=1e-5), 100),
    "llama-mha": ("llama", dict(ODD, num_attention_heads=3, num_key_value_heads=3, hidden_size=48, vocab_size=33,
        intermediate_size=17, num_hidden_layers=1), 33),
    "llama-bias": ("llama", dict(ODD, attention_bias=True, mlp_bias=True), 33),
    "qwen3-bias": ("qwen3", dict(ODD, attention_bias=True, head_dim=10), 33),
    "granite-bias": ("granite", dict(ODD, attention_bias=True, mlp_bias=True, residual_multiplier=0.3), 33),
    "olmo2-bias": ("olmo2", dict(ODD, attention_bias=True), 33),
    "gemma2-bias": ("gemma2", dict(ODD, attention_bias=True, head_dim=16, sliding_window=5), 33),
    "gemma3-bias": ("gemma3_text", dict(ODD, attention_bias=True, head_dim=16, sliding_window=5), 33),
    "smollm3-bias": ("smollm3", dict(ODD, attention_bias=True, mlp_bias=True), 33),
    "phi3-odd": ("phi3", dict(ODD, partial_rotary_factor=0.75, original_max_position_embeddings=512, sliding_window=9,
        attention_bias=False, hidden_size=80, num_attention_heads=5), 70),
    "phi3-longrope": ("phi3", dict(ODD, partial_rotary_factor=0.5, original_max_position_embeddings=32, hidden_size=80,
        num_attention_heads=5, tie_word_embeddings=True, rope_theta=1000.0, rope_scaling=dict(type="longrope",
        short_factor=[1.0, 1.1, 1.3, 1.5], long_factor=[1.0, 2.5, 6.0, 20.0])), 40),
    "phi3-longshort": ("phi3", dict(ODD, partial_rotary_factor=1.0, original_max_position_embeddings=32, hidden_size=40,
        num_attention_heads=5, intermediate_size=64, rope_parameters=dict(rope_type="longrope", rope_theta=1000.0,
        partial_rotary_factor=1.0, short_factor=[1.0, 1.1, 1.3, 1.5], long_factor=[1.0, 2.5, 6.0, 20.0])), 30),
    "phi3-oddpartial": ("phi3", dict(ODD, partial_rotary_factor=0.3, num_key_value_heads=5, rope_theta=100.0), 20),
}

# What is trained beside the linears: embedding and head, whole or by a low-rank update, on tied and untied bases, under a
# soft cap, multipliers and learned positions; a dropout. name: (model_type, config, tokens, fields of plain's LoraConfig)
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TRAINED = {
    "llama-saved": ("llama", dict(SMALL, tie_word_embeddings=False), 20,
        dict(target_modules=["q_proj", "down_proj"], modules_to_save=["embed_tokens", "lm_head"])),
    "llama-head": ("llama", dict(SMALL, vocab_size=101, tie_word_embeddings=True), 20, dict(target_modules=["lm_head"])),
    "gemma2-saved": ("gemma2", dict(SMALL, head_dim=8, query_pre_attn_scalar=8, sliding_window=7, tie_word_embeddings=True,
        attn_logit_softcapping=5.0, final_logit_softcapping=3.0), 20,
        dict(target_modules=["v_proj", "embed_tokens"], modules_to_save=["lm_head"])),
    "gemma2-head": ("gemma2", dict(SMALL, head_dim=8, query_pre_attn_scalar=8, sliding_window=7, tie_word_embeddings=True,
        attn_logit_softcapping=5.0, final_logit_softcapping=3.0), 20,
        dict(target_modules=["o_proj", "lm_head"], modules_to_save=["embed_tokens"])),
    "granite-embedding": ("granite", dict(SMALL, vocab_size=101, embedding_multiplier=6.0, attention_multiplier=0.3,
        residual_multiplier=0.4, logits_scaling=3.0, tie_word_embeddings=True), 20,
        dict(target_modules=ALL + ["embed_tokens", "lm_head"], r=3)),
    "gpt2-saved": ("gpt2", dict(vocab_size=96, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.15,
        bos_token_id=1, eos_token_id=2), 20,
        dict(target_modules=["c_attn", "lm_head"], modules_to_save=["wte"], fan_in_fan_out=True)),
    "llama-dropout": ("llama", dict(SMALL, tie_word_embeddings=False), 20,
        dict(target_modules=ALL + ["embed_tokens", "lm_head"], lora_dropout=0.2)),
    "phi3-dropout": ("phi3", dict(SMALL, tie_word_embeddings=False, original_max_position_embeddings=128), 20,
        dict(target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"], lora_dropout=0.5)),
}
DROPOUT_SEED = 5


def mixed(z):
    """SplitMix64's output for a state."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


GAMMA = np.uint64(0x9E3779B97F4A7C15)


class MaskedDropout(torch.nn.Module):
    """Dropout with the masks of the engine (`InputDropout`), which PyTorch's generator cannot give."""
    step = None  # of the optimizer; None: nothing is dropped

    def __init__(self, path, probability):
        super().__init__()
        self.probability, self.name = probability, np.uint64(0xCBF29CE484222325)
        for byte in path.encode(): self.name = (self.name ^ np.uint64(byte)) * np.uint64(0x100000001B3)

    def forward(self, x):
        if MaskedDropout.step is None: return x
        rows, length, width = x.shape
        key = mixed(np.uint64(DROPOUT_SEED) + GAMMA * np.uint64(MaskedDropout.step + 1))
        key = mixed(key + GAMMA * (np.arange(rows, dtype=np.uint64)[:, None] + np.uint64(1)))
        key = mixed(key + GAMMA * (np.arange(length, dtype=np.uint64)[None] + np.uint64(1)))
        key = mixed(key ^ self.name)[..., None]
        pair = np.arange(1, (width + 1) // 2 + 1, dtype=np.uint64)
        bits = mixed(key + GAMMA * pair)
        bits = np.stack([bits & np.uint64(0xFFFFFFFF), bits >> np.uint64(32)], -1).reshape(rows, length, -1)[..., :width]
        kept = torch.from_numpy(bits >= np.uint64(int(self.probability * 2 ** 32)))
        return x * kept / (1 - self.probability)


def with_masks(model, fields):
    if fields.get("lora_dropout"):
        for path, module in list(model.named_modules()):
            if path.endswith(".lora_dropout"):
                name = path.removeprefix("base_model.model.").removesuffix(".lora_dropout")
                module["default"] = MaskedDropout(name, fields["lora_dropout"])
    return model


@contextlib.contextmanager
def dropping(step):
    MaskedDropout.step = step
    yield
    MaskedDropout.step = None


def targets(kind):
    if kind == "phi3": return ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
    return ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def variants(kind, harder, plain):
    if plain: return {"plain": LoraConfig(task_type="CAUSAL_LM", **{**dict(r=4, lora_alpha=8), **plain})}
    adapter = lambda **k: LoraConfig(
        task_type="CAUSAL_LM", **{**dict(r=4, lora_alpha=8, target_modules=targets(kind)), **k})
    result = {"plain": adapter(), "rslora": adapter(use_rslora=True, r=3),
              "attention": adapter(r=2, target_modules=targets(kind)[:1])}
    if kind == "phi3" or harder: result["dora"] = adapter(use_dora=True)
    if harder:
        result["embedding"] = adapter(target_modules=targets(kind) + ["embed_tokens", "lm_head"])
        result["head-saved"] = adapter(modules_to_save=["lm_head"])
        result["embedding-saved"] = adapter(modules_to_save=["embed_tokens"])
        result["all-linear"] = adapter(target_modules="all-linear")
        result["regex"] = adapter(target_modules=r".*layers\.0\..*proj")
    return result


def make(out, name, kind, fields, length, plain={}, harder=False):
    name_of = lambda n: n.replace(".modules_to_save", "").replace(".default", "")
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
    for variant, setting in variants(kind, harder, plain).items():
        torch.manual_seed(13)
        adapted = with_masks(get_peft_model(fresh(), setting), plain)
        for n, p in adapted.named_parameters():
            if p.requires_grad and ("lora_B" in n or "lora_embedding_A" in n): torch.nn.init.normal_(p, std=0.08)
            if p.requires_grad and "modules_to_save" in n: p.data.add_(torch.randn_like(p) * 0.02)
            if p.requires_grad and "magnitude" in n: p.data.mul_(1 + torch.randn_like(p) * 0.1)
        adapted.eval().save_pretrained(f"{folder}/adapter/{variant}")
        record(adapted, variant, "logits." + variant)
        if variant == "plain":
            with dropping(0): loss = loss_of(adapted, ids, labels); loss.backward()
            expected["loss"] = loss.detach().reshape(1)
            for n, p in adapted.named_parameters():
                if p.grad is not None: expected["grad." + name_of(n)] = p.grad.contiguous()
    save_file(expected, folder + "/expected.safetensors")
    trained = with_masks(
        PeftModel.from_pretrained(fresh(), folder + "/adapter/plain", is_trainable=True), plain)
    # A row of a whole matrix that few tokens touch has gradients near rounding, which AdamW divides by themselves.
    epsilon = 1e-6 if plain.get("modules_to_save") else 1e-8
    parameters = [p for p in trained.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=5e-3, betas=(0.9, 0.999), eps=epsilon, weight_decay=0.01)
    steps, dropout = [], dict(dropout_seed=DROPOUT_SEED) if plain.get("lora_dropout") else {}
    for step in range(12):
        rate = 5e-3 * min((step + 1) / 3, (12 - step) / 9 if step >= 3 else 1.0)
        for group in optimizer.param_groups: group["lr"] = rate
        batch = draw() if step % 4 == 0 else batch
        batch_labels = batch.clone(); batch_labels[:, :5] = -100
        with dropping(step): loss = loss_of(trained, batch, batch_labels); optimizer.zero_grad(); loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0); optimizer.step()
        steps.append(dict(step=step, learning_rate=rate, input_ids=batch.tolist(), labels=batch_labels.tolist(),
                          loss=loss.item(), grad_norm=norm.item()))
    json.dump(dict(**dropout, optimizer=dict(name="adamw", betas=[0.9, 0.999], eps=epsilon, weight_decay=0.01, max_grad_norm=1.0),
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
    for name in sys.argv[2:] or CASES:
        for case in HARDER if name == "harder" else [name]:
            make(sys.argv[1], case, *{**CASES, **TRAINED, **HARDER}[case], harder=case in HARDER)


if __name__ == "__main__":
    main()
