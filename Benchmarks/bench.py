"""The speed table: loraq and its peers on the same work, in turns, each figure beside what the machine allows.

    make bench [ROWS=train-135m,prefill-135m] [PEERS=folder] [DATA=folder] [QUICK=1] [ROUNDS=n]

Each row is measured by itself and its figures kept in DATA/results/ROW.json; RESULTS.md is written anew after each row. A peer
that is missing or breaks is named, and the rest goes on. `python3 Benchmarks/bench.py --list` tells rows and times.
"""

import argparse
import dataclasses
import datetime
import json
import pathlib
import subprocess
import sys
import time

import report
import rows
from host import ROOT, forget_test_settings, machine
from sides import Broken, Missing, Side, ours, peer

PAUSE_S = 0.5  # threads of the last program stop spinning


def measure(row: rows.Row, options: argparse.Namespace) -> dict:
    logs = options.data / "logs"
    sides, missing, figures = [], {}, {}
    try:
        command = ours(row, options.bin, options.data, options.threads, "--turns")
        first = Side("loraq", command, row.works, logs / f"{row.name}-loraq.log", options.threads)
        sides.append(first)
        for name, works in row.peers.items():
            try:
                command = peer(name, row, options.peers, options.data, options.threads)
                sides.append(Side(name, command, works, logs / f"{row.name}-{name}.log", options.threads))
                print(f"  {name}: ready", flush=True)
            except (Missing, Broken) as reason:
                missing[name] = str(reason)
                print(f"  {name}: {reason}", flush=True)
        for number in range(row.rounds):
            for side in sides[number % len(sides) :] + sides[: number % len(sides)]:
                if side.name in missing:
                    continue
                time.sleep(PAUSE_S)
                try:
                    for figure in side.round():
                        figures.setdefault(side.name, {}).setdefault(figure["work"], []).append(figure)
                except Broken as reason:
                    if side is first:
                        raise
                    missing[side.name] = str(reason)
            print(f"  round {number + 1} of {row.rounds}", flush=True)
    finally:
        for side in sides:
            side.stop()
    versions = {side.name: side.about.get("version", "") for side in sides}
    command = ours(row, options.bin, options.data, options.threads, "--json", "--phases", "--rounds", "1")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()[1:]]
    ordered = {name: figures[name] for name in ["loraq", *row.peers] if name in figures}
    return {
        "name": row.name, "title": row.title, "shape": row.shape, "works": row.works, "musts": [vars(must) for must in row.musts],
        "rounds": row.rounds, "threads": options.threads, "isa": first.about["isa"], "figures": ordered, "versions": versions,
        "missing": missing, "phases": {line["work"]: line for line in lines},
    }  # fmt: skip


def program(name: str, options: argparse.Namespace) -> dict:
    title, words, _ = rows.PROGRAMS[name]
    script = ROOT / "Benchmarks" / words[0]
    if not script.exists():
        raise Missing(f"{script} is not there")
    command = [sys.executable, str(script), *words[1:], "--bin", str(options.bin)]
    if words[0] == "service.py":
        command += ["--model", str(options.data / "135m")]
    if words[0] == "jobs.py":
        if not options.model.exists():
            raise Missing(f"no folder {options.model}: name SmolLM2-135M-Instruct's by MODEL=")
        command += ["--model", str(options.model)]
        python = options.peers / "torch" / "bin" / "python"
        command += ["--peers", str(python)] if python.exists() else []
    if words[0] == "many_adapters.py" and options.quick:
        command += ["--adapters", "50", "--lines", "1000"]
    if words[0] == "queue/run.py" and options.quick:
        command += ["--scale", "0.1"]
    if words[0] == "service.py" and options.quick:
        command += ["--lines", "128"]
    log = options.data / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as errors:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True, timeout=900)
    if done.returncode != 0:
        said = log.read_text(errors="replace").strip().splitlines()
        raise Broken(f"ended with {done.returncode}: {said[-1] if said else 'no word'}")
    return {"name": name, "title": title, "text": done.stdout}


def prepare(options: argparse.Namespace) -> None:
    """The models, made once by the peers' Python with torch, and converted for OpenVINO where that is installed."""
    python = options.peers / "torch" / "bin" / "python"
    shapes = [options.data / shape for shape in ("135m", "0.5b")]
    if not all((shape / "done.json").exists() for shape in shapes):
        if not python.exists():
            sys.exit(f"bench: the models are made by PyTorch: python3 Benchmarks/peers/install.py {options.peers} torch")
        subprocess.run([python, ROOT / "Benchmarks" / "peers" / "make_models.py", options.data], check=True)
    export = options.peers / "openvino" / "bin" / "optimum-cli"
    for shape in shapes:
        if not export.exists() or (shape / "openvino" / "openvino_tokenizer.xml").exists():
            continue
        command = [export, "export", "openvino", "--model", shape / "hf", "--task", "text-generation-with-past"]
        log = options.data / "logs" / f"export-{shape.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as output:
            subprocess.run([*command, "--weight-format", "fp16", shape / "openvino"], stdout=output, stderr=output)


def parse() -> argparse.Namespace:
    cache = pathlib.Path.home() / ".cache"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / ".build" / "release")
    parser.add_argument("--rows", default="", help="names with commas between; all if empty")
    parser.add_argument("--peers", type=pathlib.Path, default=cache / "loraq-peers", help="what peers/install.py filled")
    parser.add_argument("--data", type=pathlib.Path, default=cache / "loraq-bench", help="models, figures and logs")
    parser.add_argument("--model", type=pathlib.Path, default=cache / "smollm2", help="SmolLM2-135M-Instruct, for the row jobs")
    parser.add_argument("--rounds", type=int, default=0, help="instead of each row's own number")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="one small round a row, to see that all runs")
    parser.add_argument("--list", action="store_true", help="tell the rows and about how long they take")
    parser.add_argument("--report", action="store_true", help="only write RESULTS.md from the figures that are kept")
    options = parser.parse_args()
    for name in ("bin", "peers", "data", "model"):
        setattr(options, name, getattr(options, name).absolute())
    return options


def main() -> int:
    options = parse()
    known = {row.name: row for row in rows.ROWS}
    if options.list:
        for row in rows.ROWS:
            print(f"{row.name:16} {row.seconds:4} s  {row.title}, {row.shape}; beside {', '.join(row.peers)}")
        for name, (title, _, seconds) in rows.PROGRAMS.items():
            print(f"{name:16} {seconds:4} s  {title}")
        return 0
    forget_test_settings()
    # Figures of small rounds are kept apart: they are none.
    folder = options.data / ("quick" if options.quick else "results")
    folder.mkdir(parents=True, exist_ok=True)
    if options.report:
        report.write(folder)
        return 0
    wanted = options.rows.split(",") if options.rows else [*known, *rows.PROGRAMS]
    if unknown := [name for name in wanted if name not in known and name not in rows.PROGRAMS]:
        sys.exit(f"bench: no row {', '.join(unknown)}; there are {', '.join([*known, *rows.PROGRAMS])}")
    prepare(options)
    failed = []
    for name in wanted:
        begin = time.monotonic()
        print(f"{name}:", flush=True)
        try:
            if name in known:
                row = rows.quick(known[name]) if options.quick else known[name]
                row = dataclasses.replace(row, rounds=options.rounds or row.rounds)
                result = measure(row, options)
            else:
                result = program(name, options)
        except (Missing, Broken, subprocess.SubprocessError) as reason:
            print(f"  {reason}", flush=True)
            failed.append(name)
            continue
        result |= {"date": f"{datetime.date.today()}", "machine": machine(), "seconds": time.monotonic() - begin}
        (folder / f"{name}.json").write_text(json.dumps(result, indent=1))
        print(report.row_text(result) if "figures" in result else report.program_text(result), flush=True)
        print(f"  {result['seconds']:.0f} s\n", flush=True)
        if not options.quick:
            report.write(folder)
    if failed:
        print(f"bench: not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
