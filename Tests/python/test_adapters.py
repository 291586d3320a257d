"""Adapters out of adapters, with the commands a person types, on the embedded model and its trained adapters."""

import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess

import harness
import pytest
from harness import BIN, DEADLINE_S, until
from test_engine import SEEDLING, texts, worker_of

import schemas

LONG_S = 4 * DEADLINE_S


@pytest.fixture(scope="module")
def engine():
    if not (BIN / "lora-worker").exists():
        pytest.fail(f"{BIN}/lora-worker is not there: build it, or set LORAQ_BIN")
    with harness.running(harness.ROOT / "workers") as broker:
        client = broker.client(timeout=60)
        done = client.wait(client.submit("prepare", {"name": "tiny", "path": str(SEEDLING / "model")}), LONG_S)
        assert done["state"] == "succeeded", done
        for name in ("iso-date", "redact"):
            register(client, name, SEEDLING / "adapters" / name)
        yield broker, client


def register(client, name: str, folder: pathlib.Path) -> None:
    spec = {"action": "register", "model": "tiny", "name": name, "path": str(folder)}
    done = client.wait(client.submit("adapter", spec), LONG_S)
    assert done["state"] == "succeeded", done


@pytest.fixture
def loraq(engine):
    broker, _ = engine

    def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / "loraq"), *words, "--home", str(broker.home)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=False)
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done

    return run


def made(loraq, *words: str) -> dict:
    """The result object of a command that makes an adapter."""
    job = json.loads(loraq("adapters", *words, "--json").stdout)
    schemas.check("result.adapter", job["result"])
    return job["result"]


def config_of(client, name: str, folder: pathlib.Path) -> dict:
    client.download(name, folder)
    return json.loads((folder / "adapter_config.json").read_text())


def answers(client, model: str, task: str, count: int = 12) -> dict[str, str]:
    rows = [json.loads(line) for line in (SEEDLING / "tasks" / task / "eval.jsonl").read_text().splitlines()[:count]]
    lines = []
    for number, row in enumerate(rows):
        body = {"model": model, "messages": row["messages"][:-1], "max_tokens": 24, "temperature": 0}
        lines.append({"custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions", "body": body})
    return texts(client, client.batch(lines, model="tiny"))


def test_a_sum_is_exact_and_a_reduction_says_what_it_kept(engine, loraq, tmp_path):
    _, client = engine
    done = loraq("adapters", "merge", "tiny:iso-date:0.5", "iso-date@1:0.5", "--name", "halves")
    assert "rank 16" in done.stderr, done.stderr
    (artifact,) = client.artifacts(name="tiny:halves")
    parents = artifact["meta"]["parents"]
    assert [(parent["adapter"], parent["weight"]) for parent in parents] == [("tiny:iso-date@1", 0.5)] * 2
    assert answers(client, "tiny:halves", "iso-date") == answers(client, "tiny:iso-date", "iso-date")

    back = made(loraq, "truncate", "tiny:halves", "--rank", "8", "--name", "tiny:whole-again")
    assert back["rank"] == 8 and "ranks" not in back
    assert back["energy"]["kept"] == pytest.approx(1, abs=1e-6), "the sum of halves has the rank of one"
    assert answers(client, "tiny:whole-again", "iso-date") == answers(client, "tiny:iso-date", "iso-date")

    both = made(loraq, "merge", "tiny:iso-date:1", "tiny:redact:0.5", "--name", "both", "--rank", "8")
    assert 0.5 < both["energy"]["lowest"] <= both["energy"]["kept"] < 1
    assert both["energy"]["lowest_module"].startswith("model.layers.")


def test_an_energy_gives_each_matrix_its_rank_which_peft_can_read(engine, loraq, tmp_path):
    _, client = engine
    done = loraq("adapters", "truncate", "iso-date", "--energy", "0.9", "--name", "small")
    assert "of the energy kept" in done.stderr, done.stderr
    config = config_of(client, "tiny:small", tmp_path / "small")
    ranks = config["rank_pattern"]
    assert ranks and config["alpha_pattern"] == ranks and config["lora_alpha"] == config["r"]
    assert all(0 < rank < 8 for rank in ranks.values()) and config["r"] < 8
    content = (tmp_path / "small" / "adapter_model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    tensors = json.loads(content[8 : 8 + length])
    tensors.pop("__metadata__", None)
    for name, entry in tensors.items():
        path = name.removeprefix("base_model.model.").rsplit(".lora_", 1)[0]
        wanted = next((rank for key, rank in ranks.items() if path == key or path.endswith("." + key)), config["r"])
        assert wanted in entry["shape"], (name, entry)
    # The folder is an adapter like any other.
    register(client, "again", tmp_path / "small")
    digests = {entry["name"]: entry["digest"] for entry in client.artifacts(name="tiny:")}
    assert digests["tiny:again"] == digests["tiny:small"]


def test_negated_twice_is_the_same_adapter(engine, loraq):
    _, client = engine
    made(loraq, "scale", "iso-date", "-1", "--name", "taken-away")
    made(loraq, "scale", "tiny:taken-away", "-1", "--name", "back")
    digests = {entry["name"]: entry["digest"] for entry in client.artifacts(name="tiny:")}
    assert digests["tiny:back"] == digests["tiny:iso-date"] != digests["tiny:taken-away"]


def test_a_merge_whose_worker_dies_ends_as_if_nothing_had_happened(engine):
    _, client = engine
    parts = [{"adapter": "tiny:iso-date", "weight": 0.25}, {"adapter": "tiny:redact", "weight": 0.75}] * 8
    spec = {"action": "merge", "parts": parts, "energy": 0.99}
    whole = client.wait(client.submit("adapter", spec | {"name": "undisturbed"}), LONG_S)
    assert whole["state"] == "succeeded", whole
    job = client.submit("adapter", spec | {"name": "disturbed"})
    until(lambda: [event for event in client.events(job=job) if event["type"] == "task.started"], "it has started")
    os.kill(worker_of(client, job), signal.SIGKILL)
    status = client.wait(job, LONG_S)
    assert status["state"] == "succeeded", status
    assert status["result"]["digest"] == whole["result"]["digest"]
    assert len(list(client.artifacts(name="tiny:disturbed"))) == 1, "registered once"


def test_what_cannot_be_merged_is_refused_with_the_reason(engine, loraq, tmp_path):
    _, client = engine
    assert "has no weight" in loraq("adapters", "merge", "tiny:iso-date", "--name", "x", code=2).stderr
    assert "different models" in loraq("adapters", "merge", "tiny:iso-date:1", "big:b:1", "--name", "x", code=2).stderr
    both = ("--rank", "2", "--energy", "0.5")
    assert "exclude each other" in loraq("adapters", "truncate", "iso-date", *both, "--name", "x", code=2).stderr
    assert "zero" in loraq("adapters", "scale", "iso-date", "0", "--name", "x", code=2).stderr
    assert "there is no" in loraq("adapters", "merge", "tiny:nobody:1", "--name", "x", code=1).stderr

    folder = tmp_path / "dora"
    shutil.copytree(SEEDLING / "adapters" / "iso-date", folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"use_dora": True}))
    weights = folder / "adapter_model.safetensors"
    content = weights.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    for name in [name for name in header if name.endswith("lora_B.weight")]:
        rows = header[name]["shape"][0]
        magnitude = name.replace("lora_B.weight", "lora_magnitude_vector")
        header[magnitude] = {"dtype": "F32", "shape": [rows], "data_offsets": [len(data), len(data) + 4 * rows]}
        data += struct.pack("<f", 1.0) * rows
    text = json.dumps(header).encode()
    weights.write_bytes(struct.pack("<Q", len(text)) + text + data)
    register(client, "dora", folder)
    error = loraq("adapters", "merge", "tiny:iso-date:1", "tiny:dora:1", "--name", "x", code=1).stderr
    assert "tiny:dora@1" in error and "DoRA" in error
    assert not list(client.artifacts(name="tiny:x"))


def test_adapters_of_two_versions_of_a_base_do_not_add_up(engine, loraq, tmp_path):
    _, client = engine
    for step, name in enumerate(("first", "second")):
        folder = tmp_path / name
        shutil.copytree(SEEDLING / "model", folder)
        weights = folder / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-2] ^= step  # one bit of one weight
        weights.write_bytes(content)
        done = client.wait(client.submit("prepare", {"name": "moving", "path": str(folder)}), LONG_S)
        assert done["state"] == "succeeded", done
        spec = {"action": "register", "model": "moving", "name": name, "path": str(SEEDLING / "adapters" / "redact")}
        assert client.wait(client.submit("adapter", spec), LONG_S)["state"] == "succeeded"
    error = loraq("adapters", "merge", "moving:first:1", "moving:second:1", "--name", "x", code=1).stderr
    assert "another version of moving" in error
    made(loraq, "scale", "moving:first", "2", "--name", "twice")
    (twice,) = client.artifacts(name="moving:twice")
    (first,) = client.artifacts(name="moving:first")
    assert twice["meta"]["base"] == first["meta"]["base"]


def test_a_merged_model_answers_as_base_and_adapter_do_and_says_how_near(engine, loraq, tmp_path):
    _, client = engine
    out = tmp_path / "merged"
    prompts = SEEDLING / "tasks" / "iso-date" / "eval.jsonl"
    text = prompts.read_text().splitlines(keepends=True)[:8]
    few = tmp_path / "few.jsonl"
    few.write_text("".join(text))
    job = json.loads(loraq("adapters", "export", "iso-date", str(out), "--merged", "--prompts", str(few), "--json").stdout)
    result = job["result"]
    schemas.check("result.export", result)
    assert result["untied_head"] is False and result["matrices"] == 35 and result["dtype"] == "bfloat16"
    drift = result["drift"]
    assert drift["prompts"] == 8 and drift["labels"] > 0
    # bf16 holds 8 bits: the merged weights move logits by little, and float32 tells which way is nearer.
    assert 0 < drift["merged"]["rms"] < 0.1 and drift["merged"]["same_top"] > 0.95
    assert 0 < drift["storage"]["rms"] < 0.1 and 0 < drift["serving"]["rms"] < 0.1
    assert drift["nll"]["merged"] == pytest.approx(drift["nll"]["unmerged"], abs=0.02)
    config = json.loads((out / "config.json").read_text())
    base = json.loads((SEEDLING / "model" / "config.json").read_text())
    assert config == base, "a merge of linear matrices changes nothing else"
    assert (out / "tokenizer.json").read_bytes() == (SEEDLING / "model" / "tokenizer.json").read_bytes()
    assert json.loads((out / "loraq-merge.json").read_text())["adapter"] == "tiny:iso-date@1"
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".merged")], "nothing half-made is left"

    loraq("models", "add", "merged", str(out))
    apart, together = answers(client, "tiny:iso-date", "iso-date"), answers(client, "merged", "iso-date")
    assert sum(apart[key] == together[key] for key in apart) >= 11, (apart, together)
    assert apart != answers(client, "tiny", "iso-date"), "the adapter does something"

    again = loraq("adapters", "export", "iso-date", str(out), "--merged", code=2).stderr
    assert "it is not overwritten" in again
    spec = {"action": "export", "adapter": "tiny:iso-date", "path": str(out)}
    refused = client.wait(client.submit("adapter", spec), LONG_S)
    assert refused["state"] == "failed" and "not overwritten" in refused["error"]["message"]


def test_a_float32_merge_loses_nothing_to_storage(engine, loraq, tmp_path):
    out = tmp_path / "wide"
    few = tmp_path / "few.jsonl"
    few.write_text("".join((SEEDLING / "tasks" / "iso-date" / "eval.jsonl").read_text().splitlines(keepends=True)[:2]))
    done = loraq("adapters", "export", "tiny:iso-date", str(out), "--merged", "--dtype", "float32", "--prompts", str(few))
    assert "float32" in done.stderr and "NLL a token" in done.stderr, done.stderr
    drift = json.loads((out / "loraq-merge.json").read_text())["result"]["drift"]
    assert drift["storage"]["max"] < 1e-4, "what is stored is what was computed"
    assert drift["serving"]["rms"] > drift["storage"]["rms"]
    assert json.loads((out / "config.json").read_text())["dtype"] == "float32"


def test_an_export_whose_worker_dies_is_done_again(engine, tmp_path):
    _, client = engine
    out = tmp_path / "merged"
    job = client.submit("adapter", {"action": "export", "adapter": "tiny:redact", "path": str(out)})
    until(lambda: [event for event in client.events(job=job) if event["type"] == "task.started"], "it has started")
    os.kill(worker_of(client, job), signal.SIGKILL)
    status = client.wait(job, LONG_S)
    assert status["state"] == "succeeded", status
    assert {entry.name for entry in tmp_path.iterdir()} == {"merged"}, "no half-made folder beside it"
    assert (out / "model.safetensors").stat().st_size > 1 << 20


@pytest.mark.parametrize("preset, per_layer", [("attention", 4), ("qkv", 3), ("mlp", 3), ("all-linear", 7)])
def test_a_plan_counts_what_the_finetune_then_does(engine, loraq, tmp_path, preset, per_layer):
    _, client = engine
    train = tmp_path / "train.jsonl"
    train.write_text("".join((SEEDLING / "tasks" / "iso-date" / "train.jsonl").read_text().splitlines(keepends=True)[:40]))
    held_out = tmp_path / "eval.jsonl"
    held_out.write_text("".join((SEEDLING / "tasks" / "iso-date" / "eval.jsonl").read_text().splitlines(keepends=True)[:8]))
    settings = [f"target_modules={preset}", "r=4", "learning_rate=auto", "num_train_epochs=2"]
    words = ["tiny", str(train), "--eval", str(held_out)] + [word for setting in settings for word in ("--set", setting)]
    plan = json.loads(loraq("plan", "finetune", *words, "--json").stdout)
    schemas.check("result.plan", plan)
    job = json.loads(loraq("finetune", *words, "--name", f"planned-{preset}", "--wait", "--json").stdout)
    result = job["result"]
    assert plan["matrices"] == 5 * per_layer == sum(plan["targets"].values())
    assert plan["targets"] == result["targets"]
    for ours, theirs in [("trainable_parameters",) * 2, ("learning_rate",) * 2, ("steps",) * 2, ("epochs",) * 2]:
        assert plan[ours] == result[theirs], ours
    assert plan["usable"] == result["trained_rows"] and plan["tokens"] * 2 == result["tokens"]
    assert plan["measured_steps"] >= 1 and plan["seconds"] > 0 and plan["tokens_per_second"] > 0
    assert plan["disk_bytes"]["adapter"] == 4 * plan["trainable_parameters"]
    assert plan["memory_bytes"]["peak"] > plan["memory_bytes"]["training"] > 0
    assert not list(client.artifacts(name="tiny:plan")), "nothing is registered"


def test_a_plan_in_words_and_what_it_refuses(engine, loraq, tmp_path):
    train = str(SEEDLING / "tasks" / "redact" / "train.jsonl")
    text = loraq("plan", "finetune", "tiny", train, "--set", "target_modules=qkv", "--set", "max_steps=3").stdout
    for word in ("matrices", "q_proj 5", "learning rate", "tokens/s", "memory", "disk"):
        assert word in text, text
    text = loraq("plan", "finetune", "tiny", train, "--set", "target_modules=embeddings", "--set", "max_steps=3").stdout
    assert "embed_tokens 1" in text, text
    assert "matches no module" in loraq("plan", "finetune", "tiny", train, "--set", "target_modules=w_proj,x_proj", code=1).stderr
