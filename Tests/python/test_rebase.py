"""`loraq rebase`: adapters of one base move to a changed one, scored, trained anew where need be, never for the worse."""

import json
import os
import pathlib
import shutil
import signal
import struct

import pytest
from harness import until
from test_adapters import LONG_S, engine, loraq  # noqa: F401
from test_engine import SEEDLING, worker_of
from test_evaluate import few

import schemas

RECIPE = {
    "r": 8, "lora_alpha": 16, "target_modules": "mlp", "learning_rate": 1e-2, "max_steps": 40, "warmup_steps": 4,
    "per_device_train_batch_size": 4, "save_steps": 5, "seed": 1,
}  # fmt: skip


class Weights:
    """The embedded model's file, changed in place."""

    def __init__(self, folder: pathlib.Path) -> None:
        shutil.copytree(SEEDLING / "model", folder)
        self.path = folder / "model.safetensors"
        content = bytearray(self.path.read_bytes())
        (length,) = struct.unpack("<Q", content[:8])
        self.header = json.loads(content[8 : 8 + length])
        self.start, self.content = 8 + length, content

    def tensor(self, name: str) -> tuple[slice, list[int]]:
        entry = self.header[name]
        begin, end = entry["data_offsets"]
        return slice(self.start + begin, self.start + end), entry["shape"]

    def reverse_rows(self, name: str) -> None:
        place, (rows, columns) = self.tensor(name)
        data = self.content[place]
        width = 2 * columns
        self.content[place] = b"".join(bytes(data[row * width : (row + 1) * width]) for row in reversed(range(rows)))

    def reverse_columns(self, name: str) -> None:
        place, (rows, columns) = self.tensor(name)
        data = bytes(self.content[place])
        swapped = bytearray()
        for row in range(rows):
            line = data[2 * columns * row : 2 * columns * (row + 1)]
            swapped += b"".join(line[2 * at : 2 * at + 2] for at in reversed(range(columns)))
        self.content[place] = swapped

    def zero(self, name: str) -> None:
        place, _ = self.tensor(name)
        self.content[place] = bytes(place.stop - place.start)

    def flip_lowest_bit(self, name: str) -> None:
        place, _ = self.tensor(name)
        self.content[place.start] ^= 1

    def write(self) -> str:
        self.path.write_bytes(self.content)
        return str(self.path.parent)


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "train.jsonl"
    rows = (SEEDLING / "tasks" / "iso-date" / "train.jsonl").read_text().splitlines(keepends=True)[:96]
    path.write_text("".join(rows))
    return path


@pytest.fixture(scope="module")
def bases(engine, train, tmp_path_factory):  # noqa: F811
    """Three changed bases, and an adapter of the old one whose data the broker has."""
    _, client = engine
    folder = tmp_path_factory.mktemp("bases")
    near = Weights(folder / "near")
    near.flip_lowest_bit("model.layers.0.mlp.down_proj.weight")
    # The same function with its neurons in another order: an adapter of their matrices means nothing there.
    other = Weights(folder / "other")
    ruined = Weights(folder / "ruined")
    for layer in range(5):
        prefix = f"model.layers.{layer}."
        other.reverse_rows(prefix + "mlp.gate_proj.weight")
        other.reverse_rows(prefix + "mlp.up_proj.weight")
        other.reverse_columns(prefix + "mlp.down_proj.weight")
        ruined.zero(prefix + "self_attn.v_proj.weight")
    for name, weights in (("near", near), ("other", other), ("ruined", ruined)):
        done = client.wait(client.submit("prepare", {"name": name, "path": weights.write()}), LONG_S)
        assert done["state"] == "succeeded", done
    rows = few(folder, "iso-date", 24)
    spec = {"model": "tiny", "name": "dates", "recipe": RECIPE}
    done = client.wait(client.submit("finetune", spec, {"train": train, "eval": rows}), LONG_S)
    assert done["state"] == "succeeded", done
    return done["result"]


def moved(loraq, *words: str, code: int = 0) -> tuple[dict, list[dict]]:  # noqa: F811
    document = json.loads(loraq("rebase", *words, "--json", code=code).stdout)
    results = [job["result"] for job in document["jobs"]]
    for result in results:
        schemas.check("result.rebase", result)
    return document, results


def test_an_adapter_keeps_what_it_was_made_from(engine, bases, loraq):  # noqa: F811
    _, client = engine
    (artifact,) = client.artifacts(name="tiny:dates")
    meta = artifact["meta"]
    assert meta["recipe"] == RECIPE and set(meta["inputs"]) == {"train", "eval"}
    assert meta["eval_loss"] == pytest.approx(bases["eval_loss_after"])
    assert meta["data"].startswith("sha256:") and meta["base"].startswith("sha256:") and meta["numerics"]
    shown = loraq("adapters", "show", "tiny:dates").stdout
    assert "recipe" in shown and "eval_loss" in shown and "numerics" in shown


def test_unchanged_where_that_is_no_worse(engine, bases, loraq):  # noqa: F811
    _, client = engine
    document, (result,) = moved(loraq, "tiny", "near", "--only", "dates")
    assert result["decision"] == "carried" and "retrained" not in result["loss"] and result["held_out"]
    assert result["loss"]["old"] == pytest.approx(bases["eval_loss_after"], rel=0.01)
    assert result["loss"]["carried"] == pytest.approx(result["loss"]["old"], rel=0.02)
    (old,), (new,) = client.artifacts(name="tiny:dates"), client.artifacts(name="near:dates")
    assert new["digest"] == old["digest"] and new["meta"]["base"] != old["meta"]["base"]
    assert new["meta"]["parents"][0]["adapter"] == "tiny:dates@1" and new["meta"]["rebased"] == "carried"
    # Repeated, there is nothing left to do.
    document, results = moved(loraq, "tiny", "near", "--only", "dates")
    assert not results and "moved already, to near:dates@1" in document["left"][0]["reason"]


def test_trained_anew_where_it_means_nothing_and_a_kill_changes_nothing(engine, bases, train):  # noqa: F811
    _, client = engine
    inputs = {"train": train}
    spec = {"action": "rebase", "adapter": "tiny:dates", "model": "other", "name": "undisturbed", "tolerance": 1}
    whole = client.wait(client.submit("adapter", spec, inputs), LONG_S)
    assert whole["state"] == "succeeded", whole
    result = whole["result"]
    schemas.check("result.rebase", result)
    assert result["decision"] == "retrained" and not result["held_out"] and result["steps"] == RECIPE["max_steps"]
    assert result["loss"]["carried"] > 2 * result["loss"]["old"] > result["loss"]["retrained"]
    job = client.submit("adapter", spec | {"name": "disturbed"}, inputs)

    def steps() -> float:
        progress = client.job(job).get("progress") or {}
        return progress.get("done", 0) if progress.get("unit") == "steps" else 0

    until(lambda: steps() >= 8, "it is trained anew", LONG_S)
    os.kill(worker_of(client, job), signal.SIGKILL)
    status = client.wait(job, LONG_S)
    assert status["state"] == "succeeded", status
    assert status["result"]["loss"] == result["loss"]
    assert status["result"]["product"]["digest"] == result["product"]["digest"]
    (artifact,) = client.artifacts(name="other:disturbed")
    assert artifact["meta"]["recipe"] == RECIPE and artifact["meta"]["rebased"] == "retrained"


def test_never_for_the_worse_and_what_keeps_no_data_is_told(engine, bases, loraq):  # noqa: F811
    _, client = engine
    document, (result,) = moved(loraq, "tiny@1", "ruined")
    assert result["decision"] == "kept" and "product" not in result
    assert min(result["loss"]["carried"], result["loss"]["retrained"]) > 1.02 * result["loss"]["old"]
    assert not list(client.artifacts(name="ruined:dates")), "no name is given to what is worse"
    left = {entry["adapter"]: entry["reason"] for entry in document["left"]}
    assert set(left) == {"tiny:iso-date@1", "tiny:redact@1"} and all("not trained here" in reason for reason in left.values())
    table = loraq("rebase", "tiny", "ruined", "--only", "dates").stdout
    assert "it would be worse" in table and "TRAINED ANEW" in table


def test_versions_of_one_model(engine, bases, loraq, tmp_path):  # noqa: F811
    _, client = engine
    near = Weights(tmp_path / "next")
    near.flip_lowest_bit("model.layers.1.mlp.down_proj.weight")
    loraq("models", "add", "tiny", near.write())
    _, (result,) = moved(loraq, "tiny@1", "tiny", "--only", "dates")
    assert result["model"] == "tiny@2" and result["decision"] == "carried"
    names = {entry["version"]: entry["meta"]["base"] for entry in client.artifacts(name="tiny:dates")}
    assert set(names) == {1, 2} and names[1] != names[2], "the name now means the new one; the old one is there by its version"


def test_an_adapter_of_another_base_is_refused_unless_told_otherwise(engine, bases, loraq, tmp_path):  # noqa: F811
    folder = str(tmp_path / "dates")
    loraq("adapters", "export", "tiny:dates@1", folder)
    assert (tmp_path / "dates" / "training.json").exists()
    refused = loraq("adapters", "add", "stray", folder, "--model", "other", code=1).stderr
    assert "ADAPTER_BASE" in refused and "--any-base" in refused and "loraq rebase" in refused
    loraq("adapters", "add", "stray", folder, "--model", "other", "--any-base")
    loraq("adapters", "add", "stray", folder, "--model", "tiny@1")
    (tmp_path / "dates" / "training.json").write_text("[]")
    assert "training.json" in loraq("adapters", "add", "stray", folder, "--model", "tiny@1", code=1).stderr


def test_what_cannot_be_rebased_is_refused(engine, bases, loraq, train):  # noqa: F811
    _, client = engine
    assert "very same matrices" in loraq("rebase", "tiny@1", "tiny@1", code=2).stderr
    assert "no model" in loraq("rebase", "tiny", "nowhere", code=1).stderr
    assert "no adapter" in loraq("rebase", "tiny@1", "near", "--only", "nothing", code=1).stderr
    assert "no adapters" in loraq("rebase", "ruined", "tiny", code=2).stderr
    assert "--tolerance" in loraq("rebase", "tiny", "near", "--tolerance", "2", code=2).stderr
    spec = {"action": "rebase", "adapter": "tiny:redact@1", "model": "near", "name": "x"}
    status = client.wait(client.submit("adapter", spec, {"train": train}), LONG_S)
    assert status["error"]["code"] == "NO_RECIPE", status
