"""Where and how this process computes; read once, at the start."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping

import peft
import torch
import transformers

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def dtype_named(name: str) -> torch.dtype:
    """`bfloat16` or `float32`."""
    if name not in _DTYPES:
        raise ValueError(f"dtype {name!r}: there are {', '.join(_DTYPES)}")
    return _DTYPES[name]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the environment asks for: the broker's share of the machine, and two settings of this plugin's own."""

    device: torch.device
    #: Overrides the type that a model was prepared in.
    dtype: str | None

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Settings:
        name = environment.get("LORAQ_PEFT_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
        if name.split(":")[0] not in ("cpu", "cuda"):
            raise SystemExit(f"LORAQ_PEFT_DEVICE is {name!r}; it may be cpu, cuda or cuda:N")
        if name != "cpu" and not torch.cuda.is_available():
            raise SystemExit(f"LORAQ_PEFT_DEVICE is {name!r}, but this PyTorch ({torch.__version__}) sees no CUDA device")
        dtype = environment.get("LORAQ_PEFT_DTYPE") or None
        if dtype is not None:
            try:
                dtype_named(dtype)
            except ValueError as error:
                raise SystemExit(f"LORAQ_PEFT_DTYPE: {error}") from None
        if environment.get("LORAQ_CPUS"):
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, {int(cpu) for cpu in environment["LORAQ_CPUS"].split(",")})
        if environment.get("LORAQ_THREADS"):
            torch.set_num_threads(int(environment["LORAQ_THREADS"]))
        return cls(torch.device(name), dtype)

    def numerics(self) -> str:
        """Names this way of computing."""
        where = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        parts = [f"peft-{peft.__version__}", f"transformers-{transformers.__version__}", f"torch-{torch.__version__}", where]
        return "+".join([*parts, *([self.dtype] if self.dtype else [])]).replace(" ", "-")
