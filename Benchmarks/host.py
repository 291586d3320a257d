"""What every benchmark here says of the machine, and where things are."""

import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]


def machine() -> str:
    fields: dict[str, str] = {}
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags", "").split()
    sets = [name for name in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if name in flags]
    model = f"{fields.get('model name')} (family {fields.get('cpu family')}, model {fields.get('model')})"
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {' '.join(sets)}"


def forget_test_settings() -> None:
    """These halve an old OpenBLAS on new cores; they are for tests, not for figures."""
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(name, None)
