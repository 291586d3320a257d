"""`learning_rate: auto` and `find`, LoRA+, and one B for k and v, with the commands a person types."""

import json
import os
import signal
import struct

import pytest
from harness import until
from test_adapters import LONG_S, engine, loraq  # noqa: F401
from test_engine import SEEDLING, worker_of
from test_evaluate import few

import schemas

TRAIN = SEEDLING / "tasks" / "iso-date" / "train.jsonl"
#: Short, and alike in all tests.
SHORT = {
    "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "max_steps": 12, "per_device_train_batch_size": 2,
    "save_steps": 2, "seed": 3,
}  # fmt: skip


def settings(**fields) -> list[str]:
    values = {name: ",".join(value) if isinstance(value, list) else value for name, value in (SHORT | fields).items()}
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


def tuned(loraq, name: str, **fields) -> dict:  # noqa: F811
    words = ["finetune", "tiny", str(TRAIN), "--name", name, *settings(**fields), "--wait", "--json"]
    result = json.loads(loraq(*words).stdout)["result"]
    schemas.check("result.finetune", result)
    return result


def tensors(folder) -> dict[str, bytes]:
    content = (folder / "adapter_model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    data = content[8 + length :]
    return {name: data[slice(*entry["data_offsets"])] for name, entry in header.items()}


def test_a_rate_is_found_and_told(engine, loraq):  # noqa: F811
    _, client = engine
    first = tuned(loraq, "found", learning_rate="find")
    choice = first["learning_rate_choice"]
    assert choice["how"] == "find" and "half of" in choice["reason"]
    curve = choice["curve"]
    rates = [point["learning_rate"] for point in curve]
    lowest = min(curve, key=lambda point: point["smoothed"])
    assert rates == sorted(rates) and first["learning_rate"] == pytest.approx(lowest["learning_rate"] / 2, rel=0.01)
    assert all(point["smoothed"] > 0 for point in curve) and min(point["smoothed"] for point in curve) < 0.9
    # The test leaves no trace: with the rate as a number the same adapter comes out.
    given = tuned(loraq, "given", learning_rate=repr(first["learning_rate"]))
    assert given["last_loss"] == first["last_loss"] and "learning_rate_choice" not in given
    digests = {entry["name"]: entry["digest"] for entry in client.artifacts(name="tiny:")}
    assert digests["tiny:given"] == digests["tiny:found"]


def test_a_plan_finds_the_rate_that_the_run_will_find(engine, loraq):  # noqa: F811
    plan = json.loads(loraq("plan", "finetune", "tiny", str(TRAIN), *settings(learning_rate="find"), "--json").stdout)
    schemas.check("result.plan", plan)
    assert plan["learning_rate"] == tuned(loraq, "planned", learning_rate="find")["learning_rate"]
    shown = loraq("plan", "finetune", "tiny", str(TRAIN), *settings(learning_rate="auto", target_modules="attention")).stdout
    assert "width 192" in shown and "are adapted" in shown


def test_a_small_share_gets_a_higher_automatic_rate(engine, loraq):  # noqa: F811
    rates = {}
    for placement in ("all-linear", "attention", "qkv"):
        words = ["plan", "finetune", "tiny", str(TRAIN), *settings(learning_rate="auto", target_modules=placement), "--json"]
        rates[placement] = json.loads(loraq(*words).stdout)["learning_rate"]
    assert rates["all-linear"] < rates["attention"] < rates["qkv"]
    result = tuned(loraq, "auto", learning_rate="auto", target_modules="attention")
    assert result["learning_rate"] == rates["attention"] and result["learning_rate_choice"]["how"] == "auto"


def test_a_killed_worker_does_not_change_the_found_rate(engine, loraq):  # noqa: F811
    _, client = engine
    recipe = SHORT | {"learning_rate": "find", "max_steps": 30}
    whole = client.wait(client.finetune("tiny", TRAIN, "whole-find", recipe=recipe), LONG_S)
    assert whole["state"] == "succeeded", whole
    broken = client.finetune("tiny", TRAIN, "broken-find", recipe=recipe)

    def progress() -> dict:
        return client.job(broken).get("progress") or {}

    # In the middle of the range test, or shortly after it; then among the steps.
    until(lambda: progress().get("message") in ("searching", "training"), "it searches", LONG_S)
    os.kill(worker_of(client, broken), signal.SIGKILL)
    until(lambda: len([event for event in client.events(job=broken) if event["type"] == "task.started"]) == 2, "again", LONG_S)
    until(lambda: progress().get("done", 0) >= 4, "it trains", LONG_S)
    os.kill(worker_of(client, broken), signal.SIGKILL)
    status = client.wait(broken, LONG_S)
    assert status["state"] == "succeeded", status
    for key in ("learning_rate", "learning_rate_choice", "last_loss"):
        assert status["result"][key] == whole["result"][key], key
    digests = {entry["name"]: entry["digest"] for entry in client.artifacts(name="tiny:")}
    assert digests["tiny:broken-find"] == digests["tiny:whole-find"]


def test_one_b_is_trained_for_k_and_v_and_written_for_each(engine, loraq, tmp_path):  # noqa: F811
    result = tuned(loraq, "shared", target_modules="qkv", share_b="true", learning_rate="4e-3", loraplus_lr_ratio=4)
    apart = tuned(loraq, "apart", target_modules="qkv", learning_rate="4e-3")
    # Five layers: k and v have 64 outputs and rank 4.
    assert apart["trainable_parameters"] - result["trainable_parameters"] == 5 * 64 * 4
    loraq("adapters", "export", "tiny:shared", str(tmp_path / "shared"))
    found = tensors(tmp_path / "shared")
    prefix = "base_model.model.model.layers.{}.self_attn.{}_proj.lora_{}.weight"
    for layer in range(5):
        k, v = (found[prefix.format(layer, part, "B")] for part in "kv")
        assert k == v and any(k), "one B, written for both"
        assert found[prefix.format(layer, "k", "A")] != found[prefix.format(layer, "v", "A")]
    config = json.loads((tmp_path / "shared" / "adapter_config.json").read_text())
    assert "share_b" not in config, "a plain PEFT adapter"
    loraq("adapters", "add", "shared-again", str(tmp_path / "shared"), "--model", "tiny")
    rows = few(tmp_path, "iso-date", 4)
    both = json.loads(loraq("evaluate", "tiny:shared", "tiny:shared-again", str(rows), "--json").stdout)
    losses = [entry["metrics"]["loss"]["value"] for entry in both["models"]]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"learning_rate": "fast"}, "auto"),
        ({"loraplus_lr_ratio": "0"}, "loraplus_lr_ratio"),
        ({"lora_plus_ratio": "4"}, "loraplus_lr_ratio"),
        ({"share_b": "qkv"}, "share_b"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_is_sent(loraq, fields, said):  # noqa: F811
    words = ["finetune", "tiny", str(TRAIN), "--name", "x", *settings(**fields)]
    assert said in loraq(*words, code=2).stderr


def test_what_no_adapter_could_do_is_refused_by_the_worker(engine, loraq):  # noqa: F811
    words = ["finetune", "tiny", str(TRAIN), "--name", "x", "--wait"]
    assert "share_b" in loraq(*words, *settings(target_modules="mlp", share_b="true"), code=1).stderr
    refused = loraq(*words, *settings(loraplus_lr_embedding="1e-5"), code=1).stderr
    assert "loraplus_lr_ratio" in refused
