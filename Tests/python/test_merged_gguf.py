"""`adapters export --merged --gguf`: the merged model as GGUF, registered again like any base."""

import json
import os
import signal

import pytest
from harness import until
from test_adapters import LONG_S, answers, engine, loraq  # noqa: F401
from test_engine import SEEDLING, worker_of
from test_evaluate import few

import schemas


def meta(client, name: str) -> dict:
    return next(iter(client.artifacts(name=name)))["meta"]


def test_a_merged_gguf_is_the_merged_folder(engine, loraq, tmp_path):  # noqa: F811
    _, client = engine
    rows = few(tmp_path, "iso-date", 4)
    folder, file = tmp_path / "folder", tmp_path / "file"
    loraq("adapters", "export", "iso-date", str(folder), "--merged")
    words = ["adapters", "export", "iso-date", str(file), "--merged", "--gguf", "--prompts", str(rows)]
    job = json.loads(loraq(*words, "--json").stdout)
    result = job["result"]
    schemas.check("result.export", result)
    assert (result["format"], result["dtype"], result["untied_head"]) == ("gguf", "bfloat16", False)
    assert any("llama.cpp has no name" in warning for warning in result["warnings"])
    assert {entry.name for entry in file.iterdir()} == {"model.gguf", "loraq-merge.json"}
    assert (file / "model.gguf").read_bytes()[:4] == b"GGUF"
    assert result["drift"]["merged"]["same_top"] > 0.9
    loraq("models", "add", "from-folder", str(folder))
    loraq("models", "add", "from-gguf", str(file / "model.gguf"))
    assert meta(client, "from-gguf")["base"] == meta(client, "from-folder")["base"], "the very same matrices"
    assert answers(client, "from-gguf", "iso-date", 6) == answers(client, "from-folder", "iso-date", 6)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_wider_types_are_kept(loraq, tmp_path, dtype):  # noqa: F811
    rows = few(tmp_path, "iso-date", 8)
    out = tmp_path / dtype
    job = json.loads(loraq("adapters", "export", "redact", str(out), "--merged", "--gguf", "--dtype", dtype, "--json").stdout)
    assert job["result"]["dtype"] == dtype
    loraq("models", "add", f"wide-{dtype}", str(out / "model.gguf"), "--dtype", "float32")
    words = ["evaluate", "tiny:redact", f"wide-{dtype}", str(rows), "--json"]
    losses = [entry["metrics"]["loss"]["value"] for entry in json.loads(loraq(*words).stdout)["models"]]
    assert losses[1] == pytest.approx(losses[0], rel=0.1, abs=0.01)


def test_an_export_whose_worker_dies_is_done_again(engine, tmp_path):  # noqa: F811
    _, client = engine
    out = tmp_path / "merged"
    job = client.submit("adapter", {"action": "export", "adapter": "tiny:redact", "path": str(out), "format": "gguf"})
    until(lambda: [event for event in client.events(job=job) if event["type"] == "task.started"], "it has started")
    os.kill(worker_of(client, job), signal.SIGKILL)
    status = client.wait(job, LONG_S)
    assert status["state"] == "succeeded", status
    assert {entry.name for entry in tmp_path.iterdir()} == {"merged"}, "no half-made folder beside it"
    assert (out / "model.gguf").stat().st_size > 1 << 20


def test_what_does_not_go_together_is_refused(loraq, tmp_path):  # noqa: F811
    out = str(tmp_path / "out")
    assert "--gguf" in loraq("adapters", "export", "redact", out, "--merged", "--dtype", "float16", code=2).stderr
    assert "float16" in loraq("adapters", "export", "redact", out, "--merged", "--dtype", "int8", code=2).stderr
    assert "--merged" in loraq("adapters", "export", "redact", out, "--gguf", "--dtype", "float16", code=2).stderr
    model = tmp_path / "bare"
    model.mkdir()
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        (model / name).write_bytes((SEEDLING / "model" / name).read_bytes())
    loraq("models", "add", "bare", str(model))
    loraq("adapters", "add", "mute", str(SEEDLING / "adapters" / "redact"), "--model", "bare")
    refused = loraq("adapters", "export", "bare:mute", out, "--merged", "--gguf", code=1).stderr
    assert "NO_TOKENIZER" in refused and not os.path.exists(out)
