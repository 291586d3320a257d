"""Makes the models of the benchmark: the shapes of SmolLM2-135M and Qwen2.5-0.5B with random weights, and adapters for them.

    python make_models.py FOLDER          (a Python with torch, transformers, peft, tokenizers, gguf)

FOLDER/NAME/hf         a Hugging Face folder, bfloat16, with a byte-level tokenizer of the shape's size
FOLDER/NAME/a0 … a7    PEFT adapters, r=16 on all linears, B not zero
FOLDER/NAME/bf16.gguf  the same weights for llama.cpp, without a vocabulary
"""

import json
import pathlib
import sys

import gguf
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

ADAPTERS, RANK = 8, 16
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
COMMON = {"tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 0, "torch_dtype": "bfloat16"}
SHAPES = {
    "135m": LlamaConfig(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        vocab_size=49152, max_position_embeddings=8192, rope_theta=100000.0, rms_norm_eps=1e-5, **COMMON,
    ),
    "0.5b": Qwen2Config(
        hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
        vocab_size=151936, max_position_embeddings=32768, rope_theta=1000000.0, rms_norm_eps=1e-6, **COMMON,
    ),
}  # fmt: skip


def tokenizer(size: int) -> Tokenizer:
    """Bytes, one special token, and words that no text contains."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<end>", *letters, *(f"\u0120w{number}" for number in range(size - 1 - len(letters)))]
    made = Tokenizer(models.BPE(vocab={word: index for index, word in enumerate(words)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<end>", special=True)])
    return made


def write_gguf(model: torch.nn.Module, path: pathlib.Path) -> None:
    config = model.config
    kind = "llama" if config.model_type == "llama" else "qwen2"
    writer = gguf.GGUFWriter(path, kind)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(100000.0 if kind == "llama" else 1000000.0)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, kind.upper()), config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        # Random weights: how the rows of q and k are ordered for the rotation does not matter here.
        if tensor.ndim == 1:
            writer.add_tensor(target, tensor.float().numpy())
        else:
            raw = tensor.contiguous().view(torch.uint8).numpy()
            writer.add_tensor(target, raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make(name: str, config, folder: pathlib.Path) -> None:
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    home = folder / "hf"
    model.save_pretrained(home)
    tokenizer(config.vocab_size).save(str(home / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>", "bos_token": "<end>", "pad_token": "<end>"}
    (home / "tokenizer_config.json").write_text(json.dumps(settings))
    write_gguf(model, folder / "bf16.gguf")
    for index in range(ADAPTERS):
        torch.manual_seed(100 + index)
        lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=TARGETS, task_type="CAUSAL_LM")
        adapted = get_peft_model(model, lora)
        for key, value in adapted.named_parameters():
            if "lora_B" in key:
                value.data.normal_(0, 1e-3)
        adapted.save_pretrained(folder / f"a{index}")
        model = adapted.unload()
    (folder / "done.json").write_text(json.dumps({"name": name, "rank": RANK}))


def main() -> None:
    root = pathlib.Path(sys.argv[1])
    for name, config in SHAPES.items():
        folder = root / name
        if (folder / "done.json").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        make(name, config, folder)
        print(f"{folder}: made")


if __name__ == "__main__":
    main()
