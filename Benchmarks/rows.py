"""The rows of the speed table: which work on which shape, beside which peers, and what must be reached."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Must:
    """A bound that a row has to meet; `check` in `report.py` reads it.

    kind: `ratio` (ours over a peer's tokens a second; of OpenVINO the faster precision), `limit` (share of what the
    machine allows) or `loss` (how much slower than another of our works).
    """

    kind: str
    work: str
    bound: float
    against: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    title: str
    shape: str
    works: tuple[str, ...]
    #: Peers, each with the works that it can do.
    peers: dict[str, tuple[str, ...]]
    musts: tuple[Must, ...]
    rounds: int
    #: About how long on two cores, starting the peers included.
    seconds: int
    quick_works: tuple[str, ...] = ()


TRAIN_135M, TRAIN_05B, PREFILL = "train:4x512", "train:2x512", "prefill:512"
ONE, MANY, MANY_05B = "decode:1x128+64", "decode:32x64+64", "decode:32x64+32"
BASE, ADAPTED, MIXED = "decode:16x32+32", "decode:16x32+32/1", "decode:16x32+32/8"

ROWS = (
    Row("train-135m", "LoRA step, r=16 on all linears, 4 × 512, all labels", "135m", (TRAIN_135M,),
        dict.fromkeys(("torch-compiled", "torch-eager", "torch-float32"), (TRAIN_135M,)),
        (Must("ratio", TRAIN_135M, 1.8, "torch-compiled"),), 3, 330),
    Row("train-0.5b", "LoRA step, r=16 on all linears, 2 × 512, all labels", "0.5b", (TRAIN_05B,),
        {"torch-compiled": (TRAIN_05B,)}, (Must("ratio", TRAIN_05B, 1.5, "torch-compiled"),), 3, 180),
    Row("prefill-135m", "prefill of one 512-token prompt", "135m", (PREFILL,),
        dict.fromkeys(("openvino", "openvino-float32", "vllm", "llama"), (PREFILL,)),
        (Must("ratio", PREFILL, 1.1, "openvino"),), 7, 80),
    Row("prefill-0.5b", "prefill of one 512-token prompt", "0.5b", (PREFILL,),
        dict.fromkeys(("openvino", "openvino-float32", "llama"), (PREFILL,)),
        (Must("ratio", PREFILL, 1.0, "openvino"),), 5, 80),
    Row("decode-1-135m", "decode, one stream", "135m", (ONE,), {"llama": (ONE,), "openvino": (ONE,)},
        (Must("limit", ONE, 0.85),), 5, 40),
    Row("decode-1-0.5b", "decode, one stream", "0.5b", (ONE,), {"llama": (ONE,), "openvino": (ONE,)},
        (Must("limit", ONE, 0.85),), 5, 80),
    Row("decode-32-135m", "decode, 32 streams", "135m", (MANY,), dict.fromkeys(("openvino", "openvino-float32", "llama"), (MANY,)),
        (Must("ratio", MANY, 1.6, "openvino"),), 3, 150),
    Row("decode-32-0.5b", "decode, 32 streams", "0.5b", (MANY_05B,),
        dict.fromkeys(("openvino", "openvino-float32", "llama"), (MANY_05B,)),
        (Must("ratio", MANY_05B, 1.4, "openvino"),), 2, 230),
    Row("adapters-135m", "decode, 16 rows on no, one and 8 adapters, r=16", "135m", (BASE, ADAPTED, MIXED),
        {"vllm": (BASE, ADAPTED, MIXED), "openvino": (BASE, ADAPTED), "torch-adapters": (MIXED,)},
        (Must("ratio", MIXED, 6, "vllm"), Must("loss", ADAPTED, 0.10, BASE)), 3, 180,
        quick_works=("decode:16x16+8", "decode:16x16+8/1", "decode:16x16+8/8")),
)  # fmt: skip

#: Rows of whole programs: a script of this folder that prints a table.
PROGRAMS = {
    "memory": ("workers on one base: memory and throughput", ["service.py", "memory"], 90),
    "start": ("worker start and cold adapters", ["service.py", "start"], 20),
    "many-adapters": ("1,000 adapters in one batch file", ["many_adapters.py"], 150),
    "queue": ("the queue on tasks that do nothing", ["queue/run.py", "--parts", "speed"], 90),
    "jobs": ("SmolLM2-135M through the queue, beside transformers and PEFT", ["jobs.py", "--rounds", "1"], 180),
}


def quick(row: Row) -> Row:
    """The same row, small: to see that everything runs, not for figures."""
    small = {TRAIN_135M: "train:1x128", TRAIN_05B: "train:1x64", PREFILL: "prefill:128"}
    small |= {ONE: "decode:1x32+8", MANY: "decode:32x16+8", MANY_05B: "decode:32x8+4"}
    small |= dict(zip(row.works, row.quick_works, strict=False)) if row.quick_works else {}

    def of(works: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(small[work] for work in works)

    musts = tuple(dataclasses.replace(m, work=small[m.work], against=small.get(m.against, m.against)) for m in row.musts)
    peers = {name: of(works) for name, works in row.peers.items()}
    return dataclasses.replace(row, works=of(row.works), peers=peers, musts=musts, rounds=1)
