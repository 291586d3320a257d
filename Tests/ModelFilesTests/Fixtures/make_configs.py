#!/usr/bin/env python3
"""Prints the default configuration of every family, all fields written out, as the installed transformers has it: one line each.

    pip install transformers==VERSION
    python make_configs.py >> configs.jsonl
"""
import json
import transformers
from transformers import AutoConfig

FAMILIES = dict(llama="LlamaForCausalLM", mistral="MistralForCausalLM", qwen2="Qwen2ForCausalLM", qwen3="Qwen3ForCausalLM",
                smollm3="SmolLM3ForCausalLM", granite="GraniteForCausalLM", olmo2="Olmo2ForCausalLM", phi3="Phi3ForCausalLM",
                gemma2="Gemma2ForCausalLM", gemma3_text="Gemma3ForCausalLM", gpt2="GPT2LMHeadModel")

for kind, architecture in FAMILIES.items():
    try: config = AutoConfig.for_model(kind)
    except ValueError: continue  # not in this version
    config.architectures = [architecture]
    fields = json.loads(config.to_json_string(use_diff=False))
    fields["transformers_version"] = transformers.__version__
    print(json.dumps(fields, sort_keys=True))
