#!/usr/bin/env python3
"""Installs the PEFT worker as a plugin of loraq: one command, for the CPU or for CUDA.

    python3 workers/peft/install.py --cpu              PyTorch for the CPU, from PyTorch's own index
    python3 workers/peft/install.py --cuda 12.6        PyTorch for CUDA 12.6, the same
    python3 workers/peft/install.py --python PYTHON    a Python that has torch, transformers and peft already

The worker goes to `$LORAQ_HOME/workers/peft` (or below --home), with a virtual environment of its own beside it unless
--python names one. `worker.json` is written last: a plugin that is installed by half is never started. A running broker
sees a new plugin when it is started again (`loraq down`, `loraq up`).
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
CLIENT = HERE.parents[1] / "clients" / "python" / "src" / "loraq"
KINDS = [
    {"name": "infer", "class": "sequence", "stall_ms": 900_000},
    {"name": "finetune", "class": "job", "stall_ms": 1_800_000},
    {"name": "prepare", "class": "job", "stall_ms": 1_800_000},
    {"name": "adapter", "class": "job", "stall_ms": 900_000},
    {"name": "check", "class": "job", "stall_ms": 900_000},
]
PROBE = "import json,torch,transformers,peft,zmq,tokenizers,safetensors;print(json.dumps([torch.__version__,peft.__version__]))"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--cpu", action="store_true", help="PyTorch for the CPU")
    what.add_argument("--cuda", metavar="VERSION", help="PyTorch for this CUDA, such as 12.6")
    what.add_argument("--python", metavar="PATH", help="a Python that has what requirements.txt names, and torch")
    parser.add_argument("--index-url", metavar="URL", help="where to get torch from, instead of PyTorch's own index")
    parser.add_argument("--home", type=pathlib.Path, help="the broker's home (default: $LORAQ_HOME)")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], help="compute in this type, whatever a model was prepared in")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda if there is one)")
    return parser.parse_args()


def environment(arguments: argparse.Namespace, folder: pathlib.Path) -> pathlib.Path:
    """The Python that runs the worker, with everything in it."""
    if arguments.python:
        found = shutil.which(arguments.python)
        if not found:
            raise SystemExit(f"{arguments.python}: there is no such program")
        # Not resolved: a virtual environment is known by the path of its `python`.
        return pathlib.Path(found).absolute()
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    variant = "cpu" if arguments.cpu else "cu" + arguments.cuda.replace(".", "")
    index = arguments.index_url or f"https://download.pytorch.org/whl/{variant}"
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    subprocess.run([*pip, "torch", "--index-url", index], check=True)
    subprocess.run([*pip, "-r", str(HERE / "requirements.txt")], check=True)
    return python


def main() -> int:
    arguments = parsed()
    home = arguments.home or pathlib.Path(os.environ.get("LORAQ_HOME") or pathlib.Path.home() / ".local/share/loraq")
    folder = (home / "workers" / "peft").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "worker.json").unlink(missing_ok=True)
    python = environment(arguments, folder)
    probe = subprocess.run([str(python), "-c", PROBE], capture_output=True, text=True)
    if probe.returncode != 0:
        reason = (probe.stderr.strip().splitlines() or ["it says nothing"])[-1]
        print(f"{python} cannot run the worker: {reason}", file=sys.stderr)
        return 1
    for name, source in (("peft_worker", HERE / "peft_worker"), ("loraq", CLIENT)):
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    run = folder / "run"
    run.write_text(f'#!/bin/sh\ncd "$(dirname "$0")" && exec "{python}" -m peft_worker\n')
    run.chmod(0o755)
    env = {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    env |= {f"LORAQ_PEFT_{key.upper()}": value for key in ("dtype", "device") if (value := getattr(arguments, key))}
    manifest = {
        "name": "peft",
        "version": "0.1.0",
        "protocol": "LQP/1",
        "exec": ["./run"],
        "kinds": KINDS,
        "instances": 1,
        "env": env,
        "ready_timeout_ms": 180_000,
        "on_request": True,
    }
    part = folder / "worker.json.part"
    part.write_text(json.dumps(manifest, indent=2) + "\n")
    part.rename(folder / "worker.json")
    torch, peft = json.loads(probe.stdout)
    print(f"installed {folder}: torch {torch}, peft {peft}. Start the broker anew, then add --worker peft to a command.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
