"""Registers the kinds and works until the broker says that it is enough."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
import threading
import time
from typing import Any

import torch
import transformers
from loraq.worker import Task, TaskError, Worker

from . import __version__, folders
from .answer import infer
from .base import Shelf, architecture, load_adapter, load_network
from .device import Settings
from .examples import Example, read_dataset
from .recipe import Recipe
from .train import Run, options_of

settings = Settings.read(os.environ)
worker = Worker(version=__version__, numerics=settings.numerics())
shelf = Shelf(settings)
#: Networks hold the adapter in use, so one task at a time computes.
_computing = threading.Lock()


@worker.kind("infer", resource_class="sequence", threads=1, prefetch=31)
def answer_line(task: Task) -> dict[str, Any]:
    with _computing:
        return infer(task, shelf, worker.numerics)


@worker.kind("finetune", resource_class="job", threads=1, prefetch=0)
def finetune(task: Task) -> dict[str, Any]:
    return Run(task, shelf, worker.numerics).run()


@worker.kind("prepare", resource_class="job", threads=1, prefetch=0)
def prepare(task: Task) -> dict[str, Any]:
    """Copies a Hugging Face folder that transformers can load: also one of an architecture that the native engine refuses."""
    begun = time.monotonic()
    source, target = pathlib.Path(task.spec["path"]), pathlib.Path(task.workdir or "") / "model"
    if not (source / "config.json").exists():
        raise TaskError("BAD_MODEL", f"{source}: there is no config.json in this folder; the PEFT worker reads no GGUF")
    family, positions = architecture(source)
    weights = folders.weight_files(source)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    index = source / "model.safetensors.index.json"
    copied = [*weights, *([index] if index.exists() else []), *(source / name for name in folders.COMPANIONS)]
    size = 0
    for place, file in enumerate(copied):
        task.check()
        if file.exists():
            size += folders.copy_durably(file, target / file.name)
        task.report(done=place + 1, total=len(copied), unit="files", message="copying")
    dtype = task.spec.get("dtype") or _stored_dtype(target)
    network = load_network(target, dtype, torch.device("cpu"))
    digest = folders.weights_digest(folders.weight_files(target))
    has_template = _has_template(target)
    names = ",".join(f"{file.name}={folders.file_digest(file)}" for file in sorted(target.iterdir()))
    whole = folders.text_digest(f"{digest}\n{dtype}\n{names}")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    fields = {"base": digest, "dtype": dtype, "source": str(source), "transformers": transformers.__version__}
    folders.write_json(target / folders.PREPARED, fields)
    reference = task.spec["name"]
    meta = {
        "base": digest, "family": family, "parameters": parameters, "dtype": dtype, "context_length": positions,
        "chat_template": has_template, "source": str(source), "prepared_by": worker.plugin,
    }  # fmt: skip
    task.artifacts = [{"type": "model", "name": reference, "digest": whole, "path": "model", "bytes": size, "meta": meta}]
    task.metrics = {"seconds": time.monotonic() - begun}
    result = {"model": reference, "digest": whole, "family": family, "parameters": parameters, "dtype": dtype, "bytes": size}
    result |= {"seconds": task.metrics["seconds"], "has_template": has_template}
    return result | ({"context_length": positions} if positions else {})


def _stored_dtype(folder: pathlib.Path) -> str:
    """bfloat16 if the matrices are stored in 16 bits, as far as the first of them tells."""
    with folders.safe_open(str(folders.weight_files(folder)[0]), framework="pt") as file:
        kinds = {file.get_slice(name).get_dtype() for name in folders.tensor_names(file)}
    return "float32" if "F32" in kinds else "bfloat16"


def _has_template(folder: pathlib.Path) -> bool:
    if (folder / "chat_template.jinja").exists() or (folder / "chat_template.json").exists():
        return True
    path = folder / "tokenizer_config.json"
    return path.exists() and folders.read_json(path, "BAD_MODEL").get("chat_template") is not None


@worker.kind("adapter", resource_class="job", threads=1, prefetch=0)
def register(task: Task) -> dict[str, Any]:
    """Copies a PEFT folder and loads the copy whole on its base."""
    if task.spec["action"] != "register":
        raise TaskError("INVALID_SPEC", f"the PEFT worker does no action `{task.spec['action']}`; the native worker does")
    with _computing:
        model, artifact = shelf.model(task)
    source, target = pathlib.Path(task.spec["path"]), pathlib.Path(task.workdir or "") / "adapter"
    if not source.is_dir():
        raise TaskError("BAD_ADAPTER", f"{source}: there is no such folder; the PEFT worker reads no GGUF adapter")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in folders.ADAPTER_FILES:
        if not (source / name).exists():
            hint = "adapter_model.bin is a pickle, which can run code: load it with PEFT and save it anew"
            raise TaskError("BAD_ADAPTER", f"{source / name} is missing", hint=hint if name.endswith("safetensors") else None)
    size = sum(folders.copy_durably(source / name, target / name) for name in folders.ADAPTER_FILES)
    network = load_network(model.folder, model.dtype, torch.device("cpu"))
    loaded = load_adapter(None, network, target, "default")
    config = loaded.peft_config["default"]
    modules = sorted({path.rsplit(".", 1)[-1] for path in loaded.targeted_module_names})
    with folders.safe_open(str(target / folders.ADAPTER_FILES[1]), framework="pt") as file:
        parameters = sum(file.get_tensor(name).numel() for name in folders.tensor_names(file))
    digest = folders.adapter_digest(target)
    reference = f"{artifact['name']}:{task.spec['name']}"
    base = (artifact.get("meta") or {}).get("base")
    common = {"rank": config.r, "alpha": config.lora_alpha, "target_modules": modules, "parameters": parameters}
    task.artifacts = [
        {"type": "adapter", "name": reference, "digest": digest, "path": "adapter", "bytes": size, "meta": {"base": base} | common}
    ]
    return {"adapter": reference, "digest": digest, "bytes": size} | common


@worker.kind("check", resource_class="job", threads=1, prefetch=0)
def check(task: Task) -> dict[str, Any]:
    """What a fine-tune would make of its data, without training."""
    if task.spec["action"] != "data":
        raise TaskError("INVALID_SPEC", f"the PEFT worker does no check `{task.spec['action']}`; the native worker does")
    recipe = Recipe.read(task.spec.get("recipe") or {})
    with _computing:
        model, _ = shelf.model(task)
    data = read_dataset(task.input("data"), model.text, options_of(recipe, model.positions, model.rows), task)
    count = task.spec.get("rows")
    shown = [_shown(example, model.text) for example in data.examples[: 3 if count is None else count]]
    task.metrics = {"usable": len(data.examples), "refused": len(data.refused)}
    result = {
        "rows": data.rows,
        "usable": len(data.examples),
        "tokens": data.tokens,
        "labels": data.labels,
        "truncated": 0,
        "duplicates": data.duplicates,
        "lengths": data.lengths(),
        "refused": data.refused[:100],
        "shown": shown,
        "warnings": data.warnings or None,
    }
    return {key: value for key, value in result.items() if value is not None}


def _shown(example: Example, text: Any) -> dict[str, Any]:
    """A row's text in stretches that are trained or not."""
    spans: list[dict[str, Any]] = []
    start = 0
    trained = [False, *example.trained[1:]]
    while start < len(example.tokens):
        end = start + 1
        while end < len(example.tokens) and trained[end] == trained[start]:
            end += 1
        written = text.decode(example.tokens[start:end], skip_special=False)
        spans.append({"text": written, "tokens": end - start, "trained": trained[start]})
        start = end
    return {"line": example.line, "spans": spans}


def main() -> None:
    print(f"peft_worker {__version__}: {worker.numerics}, {torch.get_num_threads()} threads", file=sys.stderr, flush=True)
    worker.run()


if __name__ == "__main__":
    main()
