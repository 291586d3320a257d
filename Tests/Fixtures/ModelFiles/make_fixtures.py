#!/usr/bin/env python3
"""Makes the files beside it: a GGUF file with one tensor of each type, and a tiny Llama as GGUF and as Hugging Face folder.

    pip install numpy torch gguf safetensors
    python make_fixtures.py

The expected values come from gguf-py's own dequantisation.
"""
import json, os
import numpy as np, torch
from gguf import GGUFWriter, GGMLQuantizationType as Q, dequantize, quantize
from safetensors.torch import save_file

here = os.path.join(os.path.dirname(os.path.abspath(__file__)))
rng = np.random.default_rng(7)


def halves(shape):
    """Finite half-precision scales, as bytes."""
    return rng.normal(0, 0.1, shape).astype(np.float16).view(np.uint8)


def blocks(kind, rows):
    """Random blocks of a quantised type with finite scales, for rows of 512 elements."""
    sizes = {Q.Q4_0: (32, 18, [0]), Q.Q4_1: (32, 20, [0, 2]), Q.Q5_0: (32, 22, [0]), Q.Q5_1: (32, 24, [0, 2]),
             Q.Q8_0: (32, 34, [0]), Q.Q4_K: (256, 144, [0, 2]), Q.Q5_K: (256, 176, [0, 2]), Q.Q6_K: (256, 210, [208])}
    elements, size, scales = sizes[kind]
    n = 512 // elements
    data = rng.integers(0, 256, (rows, n, size), dtype=np.uint8)
    for at in scales:
        data[:, :, at:at + 2] = halves((rows, n, 1)).reshape(rows, n, 2)
    return data.reshape(rows, n * size)


def every_type():
    w = GGUFWriter(os.path.join(here, "types.gguf"), "none")
    w.add_uint8("t.u8", 200); w.add_int8("t.i8", -100); w.add_uint16("t.u16", 60000); w.add_int16("t.i16", -30000)
    w.add_uint32("t.u32", 4000000000); w.add_int32("t.i32", -2000000000); w.add_float32("t.f32", 0.5); w.add_bool("t.bool", True)
    w.add_string("t.string", "grüße"); w.add_uint64("t.u64", 1 << 40); w.add_int64("t.i64", -(1 << 40)); w.add_float64("t.f64", 0.1)
    w.add_array("t.strings", ["a", "", "é"]); w.add_array("t.ints", [1, -2, 3]); w.add_array("t.floats", [0.5, -1.5])
    expected = {}
    for kind in (Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q4_K, Q.Q5_K, Q.Q6_K):
        data = blocks(kind, 3)
        w.add_tensor(kind.name, data, raw_dtype=kind)
        expected[kind.name] = torch.from_numpy(np.array(dequantize(data, kind), dtype=np.float32))
    x = rng.normal(0, 1, (3, 5)).astype(np.float32)
    w.add_tensor("F32", x); expected["F32"] = torch.from_numpy(x)
    h = x.astype(np.float16); h[0, 0] = 6e-8; h[0, 1] = -0.0
    w.add_tensor("F16", h); expected["F16"] = torch.from_numpy(h.astype(np.float32))
    b = torch.from_numpy(x).to(torch.bfloat16)
    w.add_tensor("BF16", b.view(torch.uint8).numpy(), raw_dtype=Q.BF16); expected["BF16"] = b.float()
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
    save_file(expected, os.path.join(here, "types.safetensors"))


def tiny_llama():
    d, heads, kv, inter, vocab, layers = 64, 2, 1, 96, 40, 2
    hd = d // heads
    path = os.path.join(here, "tiny-llama")
    os.makedirs(path, exist_ok=True)
    w = GGUFWriter(os.path.join(here, "tiny-llama.gguf"), "llama")
    w.add_vocab_size(vocab); w.add_context_length(128); w.add_embedding_length(d); w.add_block_count(layers); w.add_feed_forward_length(inter)
    w.add_rope_dimension_count(hd); w.add_head_count(heads); w.add_head_count_kv(kv); w.add_layer_norm_rms_eps(1e-5); w.add_rope_freq_base(10000.0)
    w.add_tokenizer_model("gpt2"); w.add_tokenizer_pre("smollm")
    tokens = ["<|end|>", "<|start|>"] + [chr(97 + i) for i in range(26)] + ["ab", "cd"] + [f"<x{i}>" for i in range(10)]
    w.add_token_list(tokens); w.add_token_types([3, 3] + [1] * 28 + [4] * 10); w.add_token_merges(["a b", "c d"])
    w.add_bos_token_id(1); w.add_eos_token_id(0); w.add_unk_token_id(0); w.add_pad_token_id(0); w.add_add_bos_token(False)
    w.add_chat_template("{% for m in messages %}{{ m.content }}<|end|>{% endfor %}")
    hf = {}

    def add(gguf_name, hf_name, x, kind, permute=None):
        data = x.astype(np.float32) if kind == Q.F32 else quantize(x.astype(np.float32), kind)
        w.add_tensor(gguf_name, data, raw_dtype=None if kind == Q.F32 else kind)
        y = x.astype(np.float32) if kind == Q.F32 else np.array(dequantize(data, kind), dtype=np.float32)
        if permute:
            y = y.reshape(permute, y.shape[0] // permute // 2, 2, y.shape[1]).swapaxes(1, 2).reshape(y.shape)
        hf[hf_name] = torch.from_numpy(np.ascontiguousarray(y)).to(torch.bfloat16)

    m = lambda *s: rng.normal(0, 0.1, s)
    v = lambda n: torch.from_numpy(1 + rng.normal(0, 0.1, n)).to(torch.bfloat16).float().numpy()
    add("token_embd.weight", "model.embed_tokens.weight", m(vocab, d), Q.Q8_0)
    add("output_norm.weight", "model.norm.weight", v(d), Q.F32)
    for i in range(layers):
        g, h = f"blk.{i}.", f"model.layers.{i}."
        add(g + "attn_norm.weight", h + "input_layernorm.weight", v(d), Q.F32)
        add(g + "attn_q.weight", h + "self_attn.q_proj.weight", m(d, d), Q.Q4_1, heads)
        add(g + "attn_k.weight", h + "self_attn.k_proj.weight", m(kv * hd, d), Q.Q4_1, kv)
        add(g + "attn_v.weight", h + "self_attn.v_proj.weight", m(kv * hd, d), Q.Q5_0)
        add(g + "attn_output.weight", h + "self_attn.o_proj.weight", m(d, d), Q.Q4_0)
        add(g + "ffn_norm.weight", h + "post_attention_layernorm.weight", v(d), Q.F32)
        add(g + "ffn_gate.weight", h + "mlp.gate_proj.weight", m(inter, d), Q.Q4_1)
        add(g + "ffn_up.weight", h + "mlp.up_proj.weight", m(inter, d), Q.Q5_1)
        add(g + "ffn_down.weight", h + "mlp.down_proj.weight", m(d, inter), Q.Q8_0)
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
    save_file(hf, os.path.join(path, "model.safetensors"), {"format": "pt"})
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", attention_bias=False, mlp_bias=False,
                  tie_word_embeddings=True, hidden_size=d, intermediate_size=inter, num_hidden_layers=layers, num_attention_heads=heads,
                  num_key_value_heads=kv, head_dim=hd, max_position_embeddings=128, vocab_size=vocab, rms_norm_eps=1e-5,
                  rope_theta=10000.0, rope_scaling=None, bos_token_id=1, eos_token_id=0, pad_token_id=0)
    json.dump(config, open(os.path.join(path, "config.json"), "w"), indent=1)


def float8():
    """All 256 values of the two 8-bit floats, and what PyTorch makes of them."""
    codes = torch.arange(256, dtype=torch.uint8)
    tensors = {}
    for name, dtype in (("F8_E4M3", torch.float8_e4m3fn), ("F8_E5M2", torch.float8_e5m2)):
        tensors[name] = codes.clone().view(dtype)
        tensors[name + ".float32"] = tensors[name].float()
    save_file(tensors, os.path.join(HERE, "float8.safetensors"))


every_type()
tiny_llama()
float8()
