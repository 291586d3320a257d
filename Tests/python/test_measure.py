"""`lora-worker measure`: figures beside their limits, and where the time goes."""

import json
import subprocess

import pytest
from harness import BIN, DEADLINE_S, ROOT

MODEL = str(ROOT / "examples" / "seedling" / "model")
WORKS = ["train:2x32", "prefill:40", "decode:3x16+4", "decode:4x8+2/2"]


def measure(*words: str, given: str | None = None, code: int = 0) -> subprocess.CompletedProcess:
    command = [str(BIN / "lora-worker"), "measure", MODEL, *words]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == code, done
    return done


def test_each_round_of_each_work_is_one_object():
    lines = [json.loads(line) for line in measure("--work", *WORKS, "--rounds", "2", "--json", "--phases").stdout.splitlines()]
    assert lines[0]["works"] == WORKS and lines[0]["threads"] >= 1
    assert [line["work"] for line in lines[1:]] == [work for work in WORKS for _ in range(2)]
    assert [line["tokens"] for line in lines[1::2]] == [64, 40, 12, 8]
    for line in lines[1:]:
        assert line["limit_seconds"] > 0 and line["gflop"] > 0 and line["gb"] > 0 and line["seconds"] != 0
        assert line["peak"]["float32_gflops"] > 0 and line["peak"]["read_gb_s"] > 0
    training = {phase["phase"]: phase for phase in lines[1]["phases"]}
    # Embedding, seven linears a layer and the head, forward and back: nothing is left out, nothing counted twice.
    counted = sum(phase["gflop"] for phase in training.values())
    assert counted == pytest.approx(lines[1]["gflop"], rel=0.1)
    assert {"head and loss", "attention of spans", "attention backward", "AdamW", "LoRA gradients"} <= set(training)


def test_turns_wait_for_a_line_each():
    lines = measure("--work", "prefill:16", "decode:1x8+2", "--turns", given="\n\n\n").stdout.splitlines()
    assert [json.loads(line)["work"] for line in lines[1:]] == ["prefill:16", "decode:1x8+2"] * 3


def test_text_names_the_limit_and_the_phases():
    text = measure("--work", "prefill:64", "--rounds", "1", "--phases").stdout
    assert "% of the limit" in text and "gate and up" in text and "between operations" in text


@pytest.mark.parametrize("work", ["train", "train:4", "prefill:0", "decode:1x2", "decode:0x1+1", "prefill:9999999999999999999999"])
def test_a_work_that_is_none_is_refused(work):
    done = measure("--work", work, code=64)
    assert f"--work {work}: write train:ROWSxLENGTH" in done.stderr


def test_a_model_without_a_tokenizer_cannot_decode(tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(f"{MODEL}/{name}")
    command = [str(BIN / "lora-worker"), "measure", str(tmp_path), "--work", "decode:1x2+1", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1 and "tokenizer.json" in done.stderr
