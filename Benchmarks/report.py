"""Figures of a row as text: medians, spread, ratios, and what a row must reach."""

import json
import pathlib
import statistics

from host import ROOT
from rows import PROGRAMS, ROWS, Must

RESULTS = ROOT / "Benchmarks" / "RESULTS.md"
BEGIN, END = "<!-- the speed table: written by make bench -->", "<!-- end of the speed table -->"
NAMES = {
    "loraq": "loraq", "torch-eager": "PEFT, eager", "torch-compiled": "PEFT, `torch.compile`",
    "torch-adapters": "PEFT, `adapter_names`", "torch-float32": "PEFT, float32, `torch.compile`",
    "openvino": "OpenVINO GenAI, its own precision", "openvino-float32": "OpenVINO GenAI, float32",
    "vllm": "vLLM CPU", "llama": "llama.cpp",
}  # fmt: skip


def rates(figures: list[dict]) -> list[float]:
    return [figure["tokens"] / figure["seconds"] for figure in figures]


def median_rate(row: dict, side: str, work: str) -> float | None:
    figures = row["figures"].get(side, {}).get(work)
    return statistics.median(rates(figures)) if figures else None


def share(row: dict, work: str) -> float:
    """Of what the machine allowed in the same minute, round by round."""
    return statistics.median(f["limit_seconds"] / f["seconds"] for f in row["figures"]["loraq"][work])


def cell(row: dict, side: str, work: str) -> str:
    values = rates(row["figures"][side][work])
    return f"{statistics.median(values):,.0f} ({min(values):,.0f}–{max(values):,.0f})"


def check(row: dict, must: Must) -> str:
    ours = median_rate(row, "loraq", must.work)
    if must.kind == "limit":
        reached, text = share(row, must.work), f"{must.bound:.0%} of the limit"
        return f"{text}: {'met' if reached >= must.bound else 'short'} ({reached:.0%})"
    if must.kind == "loss":
        other = median_rate(row, "loraq", must.against)
        lost = 1 - ours / other
        return f"one adapter costs at most {must.bound:.0%}: {'met' if lost <= must.bound else 'short'} ({lost:.1%})"
    sides = [must.against, f"{must.against}-float32"] if must.against == "openvino" else [must.against]
    others = [rate for side in sides if (rate := median_rate(row, side, must.work))]
    other, text = max(others, default=None), f"{must.bound:g} × {NAMES[must.against].removesuffix(', its own precision')}"
    if not other:
        return f"{text}: not known, the peer did not run"
    return f"{text}: {'met' if ours / other >= must.bound else 'short'} ({ours / other:.2f})"


def peaks(row: dict) -> str:
    figures = [figure["peak"] for work in row["figures"]["loraq"].values() for figure in work]

    def spread(key: str) -> str:
        values = [figure[key] for figure in figures if figure[key] is not None]
        return f"{min(values):.0f}–{max(values):.0f}" if values else "none"

    return (
        f"the machine meanwhile: float32 {spread('float32_gflops')}, bf16 {spread('bfloat16_gflops')} GFLOP/s, "
        f"reads {spread('read_gb_s')} GB/s"
    )


def phases(row: dict, most: int = 7) -> list[str]:
    lines = []
    for work, figure in row.get("phases", {}).items():
        total = figure["seconds"]
        peak = max(figure["peak"]["float32_gflops"], figure["peak"]["bfloat16_gflops"] or 0)
        parts = []
        for phase in figure["phases"][:most]:
            rate = phase["gflop"] / phase["seconds"] if phase["seconds"] > 0 else 0
            speed = f", {rate / peak:.0%} of the peak" if phase["gflop"] > 0 else ""
            parts.append(f"{phase['phase']} {phase['seconds'] / total:.0%}{speed}")
        rest = total - sum(phase["seconds"] for phase in figure["phases"])
        lines.append(f"`{work}`: {'; '.join(parts)}; between operations {rest / total:.0%}.")
    return lines


def row_text(row: dict) -> str:
    lines = [
        f"### {row['name']}: {row['title']} ({row['shape'].upper()} shape)", "",
        f"{row['date']}, {row['machine']}; {row['isa']} kernels, {row['threads']} threads, {row['rounds']} rounds in turns; "
        f"{peaks(row)}.",
        "",
        "| work | program | tokens/s: median (least–most) | loraq is | of the limit |", "| --- | --- | ---: | ---: | ---: |",
    ]  # fmt: skip
    for work in row["works"]:
        for side in row["figures"]:
            if work not in row["figures"][side]:
                continue
            own = side == "loraq"
            ratio = "" if own else f"{median_rate(row, 'loraq', work) / median_rate(row, side, work):.2f} ×"
            version = row["versions"].get(side, "")
            name = NAMES[side] + (f" ({version})" if version else "")
            lines.append(f"| `{work}` | {name} | {cell(row, side, work)} | {ratio} | {f'{share(row, work):.0%}' if own else ''} |")
    lines.append("")
    lines += [f"- {check(row, Must(**must))}." for must in row["musts"]]
    lines += [f"- {NAMES[name]} did not run: {reason}." for name, reason in row["missing"].items()]
    if row["works"][0].startswith("train"):
        figures = row["figures"]["loraq"][row["works"][0]]
        lines.append(f"- peak memory {max(f['peak_resident_bytes'] for f in figures) / 2**20:,.0f} MiB.")
    lines += [f"- time: {text}" for text in phases(row)]
    return "\n".join(lines)


def program_text(row: dict) -> str:
    return f"### {row['name']}: {row['title']}\n\n{row['date']}, {row['machine']}; {row['seconds']:.0f} s.\n\n{row['text'].strip()}"


def write(folder: pathlib.Path) -> None:
    """The part of RESULTS.md between the two marks: the newest figures of all rows that have any."""
    parts = []
    for name in [row.name for row in ROWS] + list(PROGRAMS):
        file = folder / f"{name}.json"
        if file.exists():
            row = json.loads(file.read_text())
            parts.append(row_text(row) if "figures" in row else program_text(row))
    text = RESULTS.read_text()
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2] if rest else ""
    if not rest:
        before = text.rstrip("\n") + "\n\n## The speed table\n\n"
    RESULTS.write_text(f"{before}{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{END}\n" + after.lstrip("\n"))
