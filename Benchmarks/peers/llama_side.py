"""llama.cpp's own benchmark programs on a bfloat16 GGUF file: one run of `llama-bench` or `llama-batched-bench` a round."""

import json
import pathlib
import subprocess

import turns

kept = turns.quiet_output()


def main() -> None:
    parser = turns.options(__doc__)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder of the programs")
    given = parser.parse_args()

    def bench(*words: str) -> dict:
        """One test of `llama-bench`, which warms up by itself."""
        command = [given.bin / "llama-bench", "-m", given.model, "-t", str(given.threads), "-r", "1", "-o", "json", *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
        return json.loads(done.stdout)[0]

    def batched(streams: int, prompt: int, tokens: int) -> dict:
        command = [
            given.bin / "llama-batched-bench", "-m", given.model, "-t", str(given.threads), "-tb", str(given.threads),
            "-c", str(streams * (prompt + tokens)), "-b", "2048", "-ub", "512", "-npp", str(prompt), "-ntg", str(tokens),
            "-npl", str(streams), "--output-format", "jsonl",
        ]  # fmt: skip
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
        return next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))

    def run(work: turns.Work) -> float:
        if work.kind == "prefill":
            return work.tokens / bench("-p", str(work.numbers[0]), "-n", "0")["avg_ts"]
        streams, prompt, tokens, adapters = work.numbers
        if adapters:
            raise SystemExit("llama.cpp's programs have no batch with an adapter a row")
        if streams == 1:
            return tokens / bench("-p", "0", "-n", str(tokens), "-d", str(prompt))["avg_ts"]
        return work.tokens / batched(streams, prompt, tokens)["speed_tg"]

    archives = sorted(given.bin.parents[1].glob("llama_cpp_python-*.tar.gz"))
    about = archives[-1].name.removesuffix(".tar.gz") if archives else "own build"
    turns.serve(kept, {"version": about}, given.work, run, warm=0)


if __name__ == "__main__":
    main()
