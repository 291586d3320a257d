"""What stands in model and adapter folders: digests, checks, copies."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
from typing import Any

import torch
from loraq.worker import TaskError
from safetensors import safe_open

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
#: Written last by this worker's `prepare`: a folder with it is whole.
PREPARED = "peft.json"
#: What a model needs beside its weights; copied where it exists.
COMPANIONS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
_CONV1D = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
_TYPE_NAMES = {
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}


def read_json(path: pathlib.Path, code: str) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise TaskError(code, f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise TaskError(code, f"{path}: {error}") from error


def weight_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The safetensors files of a model folder: the one, or the shards of its index."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        names = sorted(set(read_json(index, "BAD_MODEL").get("weight_map", {}).values()))
        if not names or any("/" in name or name in (".", "..") for name in names):
            raise TaskError("BAD_MODEL", f"{index}: weight_map names no files of this folder")
        files = [folder / name for name in names]
    else:
        files = [folder / "model.safetensors"]
    for file in files:
        if not file.exists():
            pickles = sorted(path.name for path in folder.glob("*.bin")) if folder.is_dir() else []
            hint = "weights in pickles can run code: save the model with safe_serialization=True" if pickles else None
            raise TaskError("BAD_MODEL", f"{file} is missing", hint=hint)
    return files


def tensor_names(file: Any) -> list[str]:
    """The names in an open safetensors file, which is no mapping."""
    return list(file.keys())


def _tensors(files: list[pathlib.Path]) -> dict[str, Any]:
    """The open file of each tensor, by its name."""
    where: dict[str, Any] = {}
    for file in files:
        handle = safe_open(str(file), framework="pt")
        for name in tensor_names(handle):
            if name in where:
                raise TaskError("BAD_MODEL", f"{file}: {name} is in another file too")
            where[name] = handle
    return where


def _stored_name(name: str, where: dict[str, Any]) -> str | None:
    """What a file calls a tensor: the first GPT-2 checkpoints leave out `transformer.`."""
    bare = name.removeprefix("transformer.")
    return name if name in where else bare if bare in where else None


def _bytes(tensor: torch.Tensor) -> memoryview:
    if tensor.dtype == torch.bfloat16:
        array = tensor.contiguous().view(torch.int16).numpy()
    else:
        array = tensor.to(torch.float32).contiguous().numpy()
    return memoryview(array.reshape(-1)).cast("B") if array.size else memoryview(b"")


def weights_digest(files: list[pathlib.Path], only: set[str] | None = None, *, conv1d: bool = False) -> str:
    """Digest of sorted tensors: for each a line of JSON with type, name and shape, then its elements (bf16 as they are,
    others as float32). With `only` the same as `weights` in the `model.json` that the native worker writes.

    - conv1d: Matrices of GPT-2's Conv1D are digested as `[out, in]`.

    Raises `TaskError` when a tensor of `only` is missing.
    """
    hasher = hashlib.sha256()
    where = _tensors(files)
    for name in sorted(where if only is None else only, key=str.encode):
        stored = _stored_name(name, where)
        if stored is None:
            raise TaskError("BAD_MODEL", f"{files[0].parent}: tensors are missing, such as {name}")
        tensor = where[stored].get_tensor(stored)
        if conv1d and tensor.dim() == 2 and name.endswith(_CONV1D):
            tensor = tensor.T.contiguous()
        head = {"dtype": _TYPE_NAMES.get(tensor.dtype, str(tensor.dtype)), "name": name, "shape": list(tensor.shape)}
        hasher.update(json.dumps(head, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
        hasher.update(_bytes(tensor))
    return f"sha256:{hasher.hexdigest()}"


def file_digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def adapter_digest(folder: pathlib.Path) -> str:
    """Names an adapter: its configuration and its sorted tensors."""
    config = read_json(folder / ADAPTER_FILES[0], "BAD_ADAPTER")
    weights = weights_digest([folder / ADAPTER_FILES[1]])
    text = json.dumps(config, sort_keys=True, separators=(",", ":")) + "\n" + weights
    return text_digest(text)


def copy_durably(source: pathlib.Path, target: pathlib.Path) -> int:
    """Copies a file and syncs it. Its bytes."""
    shutil.copyfile(source, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())
    return target.stat().st_size


def write_durably(path: pathlib.Path, text: str) -> None:
    """A file that is whole or absent."""
    part = path.with_name(path.name + ".part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)


def packed_sources(path: pathlib.Path) -> set[str]:
    """Names of the tensors that a `packed.bin` was made from (docs/formats.md gives its form)."""
    with path.open("rb") as file:
        prefix = file.read(96)
        if prefix[:8] != b"LORAQPM1":
            raise TaskError("BAD_MODEL", f"{path} is no packed model")
        header = json.loads(file.read(int.from_bytes(prefix[16:24], "little")))
    return {name for tensor in header["tensors"] for name in tensor["sources"]}


def text_digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def write_json(path: pathlib.Path, value: Any) -> None:
    write_durably(path, json.dumps(value, indent=2) + "\n")
