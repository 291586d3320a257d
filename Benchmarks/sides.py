"""One program in a row: started, warmed up, and then asked for a round at a time while the others sleep."""

import json
import os
import pathlib
import queue
import subprocess
import threading

from host import ROOT
from rows import Row

VOCABULARIES = {"135m": 49152, "0.5b": 151936}
START_S, ROUND_S = 600, 400
PEERS = pathlib.Path("Benchmarks") / "peers"


class Missing(Exception):
    """A program that cannot be had here, in words."""


class Broken(Exception):
    """A program that did not do what it was asked."""


class Side:
    """Its standard input takes a line a round; its standard output gives one JSON object a work."""

    def __init__(self, name: str, command: list[str], works: tuple[str, ...], log: pathlib.Path, threads: int) -> None:
        self.name, self.works, self.log = name, works, log
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment,
                start_new_session=True,
            )  # fmt: skip
        self.lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()
        self.about = self.next(START_S)

    def read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def next(self, seconds: float) -> dict:
        try:
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            raise Broken(f"no answer in {seconds} s") from None
        if line is None:
            said = [text for text in self.log.read_text(errors="replace").splitlines() if text.strip()]
            raise Broken(f"ended with {self.process.wait()}: {said[-1].strip()[:200] if said else 'no word'}")
        return json.loads(line)

    def round(self) -> list[dict]:
        """One figure a work."""
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except OSError:
            pass  # `next` says how it ended
        return [self.next(ROUND_S) for _ in self.works]

    def stop(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def ours(row: Row, binaries: pathlib.Path, data: pathlib.Path, threads: int, *more: str) -> list[str]:
    return [
        str(binaries / "lora-worker"), "measure", str(data / row.shape / "hf"), "--threads", str(threads), *more,
        "--work", *row.works,
    ]  # fmt: skip


def peer(name: str, row: Row, peers: pathlib.Path, data: pathlib.Path, threads: int) -> list[str]:
    """The command of a peer; `Missing` if it is not installed."""
    program, _, variant = name.partition("-")
    python, script = peers / program / "bin" / "python", ROOT / PEERS / f"{program}_side.py"
    shape, works = data / row.shape, row.peers[name]
    model, more = shape / "hf", []
    adapters = max((int(work.rpartition("/")[2]) for work in works if "/" in work), default=0)
    if adapters:
        more += ["--adapters", *(str(shape / f"a{index}") for index in range(adapters))]
    if program in ("openvino", "vllm"):
        more += ["--vocabulary", str(VOCABULARIES[row.shape])]
    if program == "openvino":
        model = shape / "openvino"
    if program == "llama":
        model = shape / "bf16.gguf"
        more += ["--bin", str(peers / "llama" / "build" / "bin")]
        if not (peers / "llama" / "build" / "bin" / "llama-bench").exists():
            raise Missing("its programs are not built")
    if variant == "compiled":
        more.append("--compiled")
    if variant == "float32":
        # Cores whose bf16 products are no faster than those of floats are served best by floats.
        more += ["--precision", "f32"] if program == "openvino" else ["--compiled", "--dtype", "float32"]
    if not python.exists():
        raise Missing("not installed")
    if not model.exists():
        raise Missing(f"its model {model} was not made")
    return [str(python), str(script), "--model", str(model), "--threads", str(threads), *more, "--work", *works]
