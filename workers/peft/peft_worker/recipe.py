"""A fine-tune's recipe: PEFT's, TRL's and transformers' names with the native worker's defaults."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from loraq.worker import TaskError
from peft import LoraConfig

_ADAPTER_KEYS = (
    "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "target_modules", "exclude_modules", "modules_to_save",
    "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "bias", "init_lora_weights",
)  # fmt: skip
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "c_attn", "query_key_value"}
_MLP = {"gate_proj", "up_proj", "down_proj", "gate_up_proj", "c_fc", "fc1", "fc2", "fc_in", "fc_out"}


@dataclasses.dataclass(frozen=True)
class Recipe:
    adapter_fields: dict[str, Any]
    adapter: str | None = None
    learning_rate: float | str = 2e-4
    lr_scheduler_type: str = "linear"
    warmup_steps: int = 0
    warmup_ratio: float = 0.0
    num_train_epochs: float = 3.0
    max_steps: int | None = None
    per_device_train_batch_size: int = 8
    per_device_eval_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    max_grad_norm: float = 1.0
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    max_length: int | None = None
    packing: bool = True
    shuffle: bool = True
    seed: int = 42
    data_seed: int | None = None
    train_on: str = "assistant"
    completion_only_loss: bool = True
    logging_steps: int = 1
    eval_steps: int | None = None
    save_steps: int = 50
    save_total_limit: int = 2
    dtype: str | None = None
    optim: str = "adamw"

    @classmethod
    def read(cls, given: dict[str, Any]) -> Recipe:
        """The broker has checked names and types against `recipe.schema.json`; what is left is what must agree."""
        fields = {key: value for key, value in given.items() if value is not None}
        own = {key: fields.pop(key) for key in list(fields) if key in _ADAPTER_KEYS}
        only = fields.pop("assistant_only_loss", None)
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise TaskError("INVALID_SPEC", f"recipe.{unknown[0]}: is not known to the PEFT worker")
        rate = fields.get("learning_rate", "auto")
        if isinstance(rate, str) and rate != "auto":
            raise TaskError("INVALID_SPEC", f"recipe.learning_rate: `{rate}` is not known to the PEFT worker, `auto` is")
        if only is not None:
            if "train_on" in fields and only != (fields["train_on"] != "all"):
                raise TaskError("INVALID_SPEC", f"recipe.assistant_only_loss: contradicts train_on {fields['train_on']}")
            fields["train_on"] = fields.get("train_on", "assistant") if only else "all"
        return cls(adapter_fields=own, **fields)

    def total_steps(self, per_epoch: int) -> int:
        return self.max_steps or math.ceil(self.num_train_epochs * per_epoch)

    def rate(self, peak: float, step: int, total: int) -> float:
        """The learning rate of a step (from 0), by transformers' formulas."""
        if self.lr_scheduler_type == "constant":
            return peak
        warmup = self.warmup_steps or math.ceil(total * self.warmup_ratio)
        if step < warmup:
            return peak * step / max(1, warmup)
        left = max(1, total - warmup)
        if self.lr_scheduler_type == "linear":
            return peak * max(0.0, (total - step) / left)
        if self.lr_scheduler_type == "cosine":
            return peak * max(0.0, 0.5 * (1 + math.cos(math.pi * (step - warmup) / left)))
        return peak

    def lora_config(self, linear: dict[str, int], base_name: str) -> LoraConfig:
        """PEFT's configuration, completed by defaults; `linear` are the names of the model's matrices."""
        fields = {"r": 16, "lora_alpha": 32} | self.adapter_fields
        wanted = fields.get("target_modules", "all-linear")
        if wanted == "all-linear":
            fields["target_modules"] = list(linear)
        elif wanted in ("attention", "mlp"):
            names = [name for name in linear if name in (_ATTENTION if wanted == "attention" else _MLP)]
            if not names:
                hint = f"name its matrices in target_modules: {', '.join(linear)}"
                raise TaskError("INVALID_SPEC", f"recipe.target_modules: {wanted} names no matrix of this model", hint=hint)
            fields["target_modules"] = names
        try:
            return LoraConfig(task_type="CAUSAL_LM", base_model_name_or_path=base_name, **fields)
        except (TypeError, ValueError) as error:
            raise TaskError("INVALID_SPEC", f"recipe: PEFT refuses it: {error}"[:2000]) from error


def automatic_rate(linear: dict[str, int], adapted: int) -> float:
    """`auto`: 2e-4 when all linear matrices are adapted, more for a part of them, at most fourfold."""
    return 2e-4 * min(4.0, max(1.0, math.sqrt(sum(linear.values()) / max(1, adapted))))


class SeededGenerator:
    """SplitMix64, as the native worker shuffles: the same seed gives both the same order of rows."""

    _MASK = (1 << 64) - 1

    def __init__(self, seed: int, stream: int) -> None:
        self._state = (stream * 0xD1342543DE82EF95 + 1) & self._MASK
        self._state = seed ^ self.next()

    def next(self) -> int:
        self._state = (self._state + 0x9E3779B97F4A7C15) & self._MASK
        value = self._state
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & self._MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & self._MASK
        return value ^ (value >> 31)

    def below(self, bound: int) -> int:
        product = self.next() * bound
        threshold = (1 << 64) % bound
        while product & self._MASK < threshold:
            product = self.next() * bound
        return product >> 64

    def shuffled(self, count: int) -> list[int]:
        rows = list(range(count))
        for index in range(count - 1, 0, -1):
            other = self.below(index + 1)
            rows[index], rows[other] = rows[other], rows[index]
        return rows
