"""`finetune`: data and a recipe become an adapter, with checkpoints at step boundaries."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import pathlib
import resource
import shutil
import time
from typing import Any

import torch
from loraq.worker import Stopped, Task, TaskError
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file

from . import folders
from .base import Shelf, adapter_of, linear_names, load_adapter, load_network, source_folder
from .examples import IGNORED, Dataset, Example, Options, read_dataset
from .recipe import Recipe, SeededGenerator, automatic_rate
from .text import ModelText

_MOST_SKIPS = 5


@dataclasses.dataclass
class State:
    """What a checkpoint holds beside tensors."""

    step: int = 0
    tokens: int = 0
    labels: int = 0
    seconds: float = 0.0
    first_loss: float | None = None
    last_loss: float | None = None
    eval_loss_before: float | None = None
    skipped: list[int] = dataclasses.field(default_factory=list)


def options_of(recipe: Recipe, positions: int, vocabulary: int) -> Options:
    if recipe.max_length is not None and recipe.max_length > positions:
        message = f"recipe.max_length: is {recipe.max_length}, more than the {positions} positions of the model"
        raise TaskError("INVALID_SPEC", message)
    return Options(recipe.train_on, recipe.completion_only_loss, recipe.max_length or positions, vocabulary)


class Run:
    """One attempt at a fine-tune."""

    def __init__(self, task: Task, shelf: Shelf, numerics: str) -> None:
        assert task.workdir is not None
        self.task, self.numerics = task, numerics
        self.folder = pathlib.Path(task.workdir)
        self.recipe = Recipe.read(task.spec.get("recipe") or {})
        self.artifact = next(a for a in task.envelope["artifacts"] if a["type"] == "model")
        meta = self.artifact.get("meta") or {}
        self.dtype = self.recipe.dtype or shelf.settings.dtype or meta.get("dtype") or "float32"
        self.device = shelf.settings.device
        source = source_folder(self.artifact)
        task.report(message="loading the model")
        # Adapters change the network that they are put on, so a fine-tune has one of its own.
        network = load_network(source, self.dtype, self.device)
        self.text = ModelText(source, network)
        positions = getattr(network.config, "max_position_embeddings", None) or 1 << 20
        options = options_of(self.recipe, positions, network.get_input_embeddings().weight.shape[0])
        train_path = task.input("train")
        self.data = read_dataset(train_path, self.text, options, task)
        self.data.require_labels(train_path)
        self.eval: Dataset | None = None
        if any(entry["name"] == "eval" for entry in task.envelope.get("inputs") or []):
            self.eval = read_dataset(task.input("eval"), self.text, options, task)
            self.eval.require_labels(task.input("eval"))
        self.pad = self.text.end_of_text or 0
        self.linear = linear_names(network)
        self.model = self._start(network)
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.peak = self._peak_rate()
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=self.peak,
            betas=(self.recipe.adam_beta1, self.recipe.adam_beta2),
            eps=self.recipe.adam_epsilon,
            weight_decay=self.recipe.weight_decay,
        )
        window = self.recipe.per_device_train_batch_size * self.recipe.gradient_accumulation_steps
        self.per_epoch = math.ceil(len(self.data.examples) / window)
        self.total = self.recipe.total_steps(self.per_epoch)
        self.window = window
        self.state = State()
        self.resumed_from: int | None = None

    def _start(self, network: Any) -> Any:
        torch.manual_seed(self.recipe.seed)
        if self.recipe.adapter is None:
            config = self.recipe.lora_config(self.linear, self.artifact["name"])
            try:
                return get_peft_model(network, config)
            except ValueError as error:
                raise TaskError("INVALID_SPEC", f"recipe: PEFT refuses it: {error}"[:2000]) from error
        adapter = adapter_of(self.task, self.artifact)
        if adapter is None:
            raise TaskError("UNKNOWN_ARTIFACT", f"recipe.adapter: there is no adapter {self.recipe.adapter}")
        if self.recipe.adapter_fields:
            field = next(iter(self.recipe.adapter_fields))
            raise TaskError("INVALID_SPEC", f"recipe.{field}: the adapter to go on from has its own; leave it out")
        model = load_adapter(None, network, pathlib.Path(adapter["path"]), "default")
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora_" in name or "modules_to_save" in name)
        return model

    def _peak_rate(self) -> float:
        if self.recipe.learning_rate != "auto":
            return float(self.recipe.learning_rate)
        layers = [module for module in self.model.modules() if isinstance(module, LoraLayer)]
        return automatic_rate(self.linear, sum(sum(layer.get_base_layer().weight.shape) for layer in layers))

    # -- Training

    def run(self) -> dict[str, Any]:
        """Trains to the end. Raises `Stopped` at a step boundary, with a checkpoint written, when the broker asks for it."""
        self._resume()
        begun, earlier = time.monotonic(), self.state.seconds
        self.model.train()
        if self.state.step == 0 and self.eval is not None:
            self.state.eval_loss_before = self.evaluate()
            self._log({"step": 0, "eval_loss": self.state.eval_loss_before})
        while self.state.step < self.total:
            try:
                self.task.check()
            except Stopped:
                self._save()
                raise
            self._step()
            self.state.seconds = earlier + time.monotonic() - begun
            is_last = self.state.step == self.total
            every = self.recipe.eval_steps
            if self.eval is not None and every and self.state.step % every == 0 and not is_last:
                self._log({"step": self.state.step, "eval_loss": self.evaluate()})
            if self.state.step % self.recipe.save_steps == 0 or is_last:
                self._save()
        if self.state.last_loss is None:
            raise TaskError("NON_FINITE", "every step had a loss or gradient that is not finite: nothing was learned")
        after = self.evaluate() if self.eval is not None else None
        return self._product(after)

    def _window(self, step: int) -> list[Example]:
        epoch, place = divmod(step, self.per_epoch)
        count = len(self.data.examples)
        if self.recipe.shuffle:
            seed = self.recipe.seed if self.recipe.data_seed is None else self.recipe.data_seed
            order = SeededGenerator(seed, epoch).shuffled(count)
        else:
            order = list(range(count))
        return [self.data.examples[row] for row in order[place * self.window : (place + 1) * self.window]]

    def _step(self) -> None:
        """One optimizer step: sums over the window's labels, divided by their number."""
        rows = self._window(self.state.step)
        labels = sum(row.label_count for row in rows)
        size = self.recipe.per_device_train_batch_size
        rate = self.recipe.rate(self.peak, self.state.step, self.total)
        self.optimizer.zero_grad(set_to_none=True)
        loss_sum = 0.0
        for start in range(0, len(rows), size):
            loss = self._loss(rows[start : start + size])
            (loss / labels).backward()
            loss_sum += float(loss.detach())
            self.task.advance(sum(len(row.tokens) for row in rows[start : start + size]))
        loss = loss_sum / labels
        limit = self.recipe.max_grad_norm or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, limit))
        tokens = sum(len(row.tokens) for row in rows)
        self.state.step += 1
        self.state.tokens += tokens
        self.state.labels += labels
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.state.skipped.append(self.state.step - 1)
            recent = range(self.state.step - _MOST_SKIPS, self.state.step)
            self._log({"step": self.state.step, "skipped": "the loss or gradient is not finite"})
            if all(step in self.state.skipped for step in recent):
                raise TaskError("NON_FINITE", f"{_MOST_SKIPS} steps in a row had a loss or gradient that is not finite")
            return
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        if self.state.first_loss is None:
            self.state.first_loss = loss
        self.state.last_loss = loss
        epoch = self.state.step / self.per_epoch
        values = {"loss": loss, "grad_norm": norm, "learning_rate": rate, "epoch": epoch, "tokens": self.state.tokens}
        self._log({"step": self.state.step, "labels": labels, **values, "tokens": tokens})
        if self.state.step % self.recipe.logging_steps == 0:
            self.task.report(done=self.state.step, total=self.total, unit="steps", metrics=values, message="training")

    def _loss(self, rows: list[Example]) -> torch.Tensor:
        """Sum of the cross entropy over the labels of rows that are padded on the right, in float32."""
        width = max(len(row.tokens) for row in rows)

        def padded(values: list[list[int]], filler: int) -> torch.Tensor:
            return torch.tensor([value + [filler] * (width - len(value)) for value in values], device=self.device)

        ids = padded([row.tokens for row in rows], self.pad)
        mask = padded([[1] * len(row.tokens) for row in rows], 0)
        labels = padded([row.labels for row in rows], IGNORED)
        logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
        return torch.nn.functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), ignore_index=IGNORED, reduction="sum"
        )

    def evaluate(self) -> float:
        """Loss sum over all labels of the evaluation rows divided by their number."""
        assert self.eval is not None
        size = self.recipe.per_device_eval_batch_size
        self.model.eval()
        total = 0.0
        with torch.inference_mode():
            for start in range(0, len(self.eval.examples), size):
                self.task.check()
                rows = self.eval.examples[start : start + size]
                total += float(self._loss(rows))
                self.task.advance(sum(len(row.tokens) for row in rows))
        self.model.train()
        return total / self.eval.labels

    def _log(self, values: dict[str, Any]) -> None:
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(values) + "\n")

    # -- Checkpoints

    def _identity(self) -> str:
        """A checkpoint of another base, recipe or data is not gone on from."""
        rows = [(row.tokens, row.labels) for data in (self.data, self.eval) if data for row in data.examples]
        text = json.dumps([self.artifact["digest"], self.task.spec, rows, self.dtype], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _save(self) -> None:
        path = self.folder / "checkpoint.pt"
        part = path.with_suffix(".part")
        content = {
            "identity": self._identity(),
            "state": dataclasses.asdict(self.state),
            "adapter": get_peft_model_state_dict(self.model, save_embedding_layers=False),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        with part.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        try:
            # Tensors and plain values only: a pickle could run code.
            content = torch.load(path, map_location=self.device, weights_only=True)
        except Exception as error:
            self.data.warnings.append(f"a checkpoint was not readable ({type(error).__name__}); began anew")
            return
        if content["identity"] != self._identity():
            raise TaskError("BAD_CHECKPOINT", f"{path} is of another base, recipe or data")
        set_peft_model_state_dict(self.model, content["adapter"])
        self.optimizer.load_state_dict(content["optimizer"])
        torch.set_rng_state(content["random"].cpu())
        self.state = State(**content["state"])
        self.resumed_from = self.state.step

    # -- The result

    def _product(self, eval_loss: float | None) -> dict[str, Any]:
        target = self.folder / "adapter"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        tensors = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        config: LoraConfig = self.model.peft_config["default"]
        config.inference_mode = True
        save_file({key: value.float().cpu().contiguous() for key, value in tensors.items()}, target / folders.ADAPTER_FILES[1])
        text = json.dumps(_plain(config.to_dict()), indent=2, sort_keys=True)
        folders.write_durably(target / folders.ADAPTER_FILES[0], text)
        digest = folders.adapter_digest(target)
        state = self.state
        base = (self.artifact.get("meta") or {}).get("base")
        record = {"base": base, "numerics": self.numerics, "recipe": self.task.spec.get("recipe"), **dataclasses.asdict(state)}
        folders.write_durably(target / "training.json", json.dumps(record, indent=2))
        size = sum(file.stat().st_size for file in target.iterdir())
        reference = f"{self.artifact['name']}:{self.task.spec['name']}"
        layers = {path: module for path, module in self.model.named_modules() if isinstance(module, LoraLayer)}
        targets: dict[str, int] = {}
        for path in layers:
            name = path.rsplit(".", 1)[-1]
            targets[name] = targets.get(name, 0) + 1
        count = sum(parameter.numel() for parameter in self.parameters)
        meta = {
            "base": base, "rank": config.r, "alpha": config.lora_alpha, "target_modules": sorted(targets), "parameters": count,
            "job": self.task.envelope["job"], "last_loss": state.last_loss,
        }  # fmt: skip
        self.task.artifacts = [
            {"type": "adapter", "name": reference, "digest": digest, "path": "adapter", "bytes": size, "meta": meta}
        ]
        speed = state.tokens / max(1e-9, state.seconds)
        result = {
            "adapter": {"name": reference, "digest": digest},
            "rows": self.data.rows,
            "trained_rows": len(self.data.examples),
            "refused": self.data.refused[:100],
            "refused_rows": len(self.data.refused) if len(self.data.refused) > 100 else None,
            "tokens": state.tokens,
            "label_tokens": state.labels,
            "steps": state.step,
            "skipped_steps": len(state.skipped) or None,
            "epochs": state.step / self.per_epoch,
            "first_loss": state.first_loss,
            "last_loss": state.last_loss,
            "eval_loss_before": state.eval_loss_before,
            "eval_loss_after": eval_loss,
            "learning_rate": self.peak,
            "trainable_parameters": count,
            "targets": targets,
            "seconds": state.seconds,
            "tokens_per_second": speed,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "dtype": self.dtype,
            "numerics": self.numerics,
            "resumed_from_step": self.resumed_from,
            "warnings": self.data.warnings or None,
        }
        self.task.usage = {"tokens": state.tokens, "label_tokens": state.labels}
        metrics = {
            "first_loss": state.first_loss, "last_loss": state.last_loss, "seconds": state.seconds,
            "tokens_per_second": speed, "eval_loss": eval_loss, "eval_loss_before": state.eval_loss_before,
        }  # fmt: skip
        self.task.metrics = {key: value for key, value in metrics.items() if value is not None}
        return {key: value for key, value in result.items() if value is not None}


def _plain(value: Any) -> Any:
    """What JSON knows: sets become sorted lists, enumerations their values."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, set):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return getattr(value, "value", value)


__all__ = ["Run", "options_of"]
