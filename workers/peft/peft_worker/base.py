"""Base models and adapters in this process."""

from __future__ import annotations

import collections
import contextlib
import gc
import inspect
import pathlib
from collections.abc import Iterator
from typing import Any

import torch
from loraq.worker import Task, TaskError
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

from . import folders
from .device import Settings, dtype_named
from .text import ModelText

_MODELS = 2
_ADAPTERS = 16


class BaseModel:
    """A causal language model, its text side, and the adapters loaded on it."""

    def __init__(self, folder: pathlib.Path, dtype: str, device: torch.device) -> None:
        self.folder = folder
        self.dtype = dtype
        self.device = device
        self.network = load_network(folder, dtype, device)
        self.text = ModelText(folder, self.network)
        parameters = inspect.signature(self.network.forward).parameters
        self.keeps_logits = "logits_to_keep" in parameters
        #: What `forward` calls the state that it goes on from (transformers 5.24 renamed it); None: every step begins anew.
        self.cache_name = next((name for name in ("cache", "past_key_values") if name in parameters), None)
        self._peft: PeftModel | None = None
        self._adapters: collections.OrderedDict[str, None] = collections.OrderedDict()

    @property
    def positions(self) -> int:
        """The most tokens of prompt and answer together."""
        config = self.network.config
        text = getattr(config, "text_config", config)
        return getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None) or 1 << 20

    @property
    def rows(self) -> int:
        """Rows of the embedding: ids at or above it have none."""
        return self.network.get_input_embeddings().weight.shape[0]

    @contextlib.contextmanager
    def serving(self, adapter: dict[str, Any] | None) -> Iterator[torch.nn.Module]:
        """The network with an adapter (an artifact of the task), or without."""
        if adapter is None:
            if self._peft is None:
                yield self.network
            else:
                with self._peft.disable_adapter():
                    yield self._peft
            return
        folder = pathlib.Path(adapter["path"])
        config = PeftConfig.from_pretrained(str(folder))
        if getattr(config, "bias", "none") != "none":
            # Trained biases replace the base's own: they get a copy of the base.
            network = load_network(self.folder, self.dtype, self.device)
            yield load_adapter(None, network, folder, "adapter").eval()
            return
        name = adapter["digest"].removeprefix("sha256:")
        if name not in self._adapters:
            if self._peft is not None and len(self._adapters) >= _ADAPTERS:
                self._peft.delete_adapter(self._adapters.popitem(last=False)[0])
            self._peft = load_adapter(self._peft, self.network, folder, name)
            self._peft.eval()
        self._adapters[name] = None
        self._adapters.move_to_end(name)
        assert self._peft is not None
        self._peft.set_adapter(name)
        yield self._peft


def load_network(folder: pathlib.Path, dtype: str, device: torch.device) -> Any:
    """Loads a model folder: safetensors only, and no code of its own.

    Raises `TaskError` when transformers does not know it or tensors are missing.
    """
    folders.weight_files(folder)
    try:
        network, report = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=dtype_named(dtype),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        raise TaskError("BAD_MODEL", f"{folder}: transformers cannot load it: {error}"[:2000]) from error
    for what in ("missing_keys", "mismatched_keys"):
        if report.get(what):
            raise TaskError("BAD_MODEL", f"{folder}: {what.replace('_', ' ')}: {', '.join(map(str, sorted(report[what])[:5]))}")
    return network.to(device).eval()


def load_adapter(model: PeftModel | None, network: Any, folder: pathlib.Path, name: str) -> PeftModel:
    """Loads a PEFT folder whole: each tensor of the file must have its place, and each place its tensor.

    Raises `TaskError` otherwise, or when PEFT refuses the configuration.
    """
    for file in folders.ADAPTER_FILES:
        if not (folder / file).exists():
            raise TaskError("BAD_ADAPTER", f"{folder / file} is missing", hint="give the folder that save_pretrained wrote")
    try:
        if model is None:
            model = PeftModel.from_pretrained(network, str(folder), adapter_name=name)
        else:
            model.load_adapter(str(folder), adapter_name=name)
        placed = set(get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False))
    except (ValueError, KeyError, RuntimeError, TypeError) as error:
        raise TaskError("BAD_ADAPTER", f"{folder}: PEFT refuses it: {error}"[:2000]) from error
    with safe_open(str(folder / folders.ADAPTER_FILES[1]), framework="pt") as file:
        given = {key for key in folders.tensor_names(file) if ".base_layer." not in key}
    if placed - given:
        raise TaskError("BAD_ADAPTER", f"{folder}: tensors are missing, such as {min(placed - given)}")
    if given - placed:
        raise TaskError("BAD_ADAPTER", f"{folder}: tensors have no place in this model, such as {min(given - placed)}")
    return model


class Shelf:
    """The models in this process, the least recently used put away first."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._models: collections.OrderedDict[tuple[str, str], BaseModel] = collections.OrderedDict()

    def model(self, task: Task, dtype: str | None = None) -> tuple[BaseModel, dict[str, Any]]:
        """The base model that a task names, and its artifact.

        - dtype: In place of the one that it was prepared in.
        """
        artifact = next((a for a in task.envelope.get("artifacts") or [] if a["type"] == "model"), None)
        if artifact is None:
            raise TaskError("INTERNAL", "the task names no model", retryable=True)
        meta = artifact.get("meta") or {}
        kind = dtype or self.settings.dtype or meta.get("dtype") or "float32"
        key = (artifact["digest"], kind)
        if key not in self._models:
            task.report(message="loading the model")
            model = BaseModel(source_folder(artifact), kind, self.settings.device)
            while len(self._models) >= _MODELS:
                self._models.popitem(last=False)
                gc.collect()
            self._models[key] = model
        self._models.move_to_end(key)
        return self._models[key], artifact


def adapter_of(task: Task, base: dict[str, Any]) -> dict[str, Any] | None:
    """The adapter that a task names, if any, made for this base."""
    adapter = next((a for a in task.envelope.get("artifacts") or [] if a["type"] == "adapter"), None)
    if adapter is None:
        return None
    trained_on = (adapter.get("meta") or {}).get("base")
    own = (base.get("meta") or {}).get("base")
    if trained_on and own and trained_on != own:
        message = f"{adapter['name']}@{adapter['version']} was made for another base model ({trained_on}, this is {own})"
        hint = "train it again on this model, or name the version of the model it was made for"
        raise TaskError("BAD_ADAPTER", message, hint=hint)
    return adapter


def source_folder(artifact: dict[str, Any]) -> pathlib.Path:
    """The Hugging Face folder of a registered model.

    One that this worker prepared is its own. One that the native worker prepared is the folder that it was made from, as
    long as its weights are still the same.
    """
    folder = pathlib.Path(artifact["path"])
    if (folder / folders.PREPARED).exists():
        return folder
    manifest = folders.read_json(folder / "model.json", "BAD_MODEL")
    source = pathlib.Path(manifest.get("source") or "")
    again = f"add it once more: loraq models add {artifact['name']} FOLDER --worker peft"
    if source.suffix == ".gguf":
        raise TaskError("BAD_MODEL", f"{artifact['name']} was made from {source}: GGUF is not read here", hint=again)
    if not (source / "config.json").exists():
        raise TaskError("BAD_MODEL", f"{artifact['name']} was made from {source}, which is not there any more", hint=again)
    if not manifest.get("weights"):
        raise TaskError("BAD_MODEL", f"{folder}: was prepared before weights were recorded in model.json", hint=again)
    names = folders.packed_sources(folder / "packed.bin")
    is_gpt2 = folders.read_json(source / "config.json", "BAD_MODEL").get("model_type") == "gpt2"
    if folders.weights_digest(folders.weight_files(source), names, conv1d=is_gpt2) != manifest.get("weights"):
        raise TaskError("BAD_MODEL", f"{source}: its weights are not those that {artifact['name']} was made from", hint=again)
    for name in ("tokenizer.json",):
        if (folder / name).exists() and folders.file_digest(folder / name) != folders.file_digest(source / name):
            raise TaskError("BAD_MODEL", f"{source / name} is not the one that {artifact['name']} was made from", hint=again)
    return source


def architecture(folder: pathlib.Path) -> tuple[str, int]:
    """`model_type` and the most positions, by transformers. Raises `TaskError` when it does not know the folder."""
    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except (ValueError, KeyError, OSError) as error:
        raise TaskError("BAD_MODEL", f"{folder}: transformers does not know this model: {error}"[:2000]) from error
    text = getattr(config, "text_config", config)
    return config.model_type, int(getattr(text, "max_position_embeddings", 0) or 0)


def linear_names(network: torch.nn.Module) -> dict[str, int]:
    """Names of the matrices that `all-linear` adapts, in model order, each with the sum of its inputs and outputs."""
    head = network.get_output_embeddings()
    sizes: dict[str, int] = {}
    for path, module in network.named_modules():
        weight = getattr(module, "weight", None)
        is_linear = isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
        if is_linear and module is not head and weight is not None:
            name = path.rsplit(".", 1)[-1]
            sizes[name] = sizes.get(name, 0) + sum(weight.shape)
    return sizes


__all__ = ["BaseModel", "LoraConfig", "Shelf", "adapter_of", "load_adapter", "load_network", "source_folder"]
