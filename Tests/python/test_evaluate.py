"""`loraq evaluate`: several models and adapters on the same rows, figures with intervals, results per line, gates."""

import json
import os
import signal

import pytest
from harness import until
from test_adapters import LONG_S, engine, loraq  # noqa: F401
from test_engine import SEEDLING, worker_of

import schemas


def few(folder, task: str, count: int):
    path = folder / f"{task}.jsonl"
    rows = (SEEDLING / "tasks" / task / "eval.jsonl").read_text().splitlines(keepends=True)[:count]
    path.write_text("".join(rows))
    return path


def test_adapters_side_by_side_with_intervals_gains_and_lines(engine, loraq, tmp_path):  # noqa: F811
    rows = few(tmp_path, "iso-date", 24)
    with rows.open("a") as file:
        file.write("this is no row\n")
    out = tmp_path / "lines.jsonl"
    metrics = r"loss,token_accuracy,exact_match,regex:^\d{4}-\d\d-\d\d$"
    words = ["evaluate", "iso-date", "tiny:redact", "tiny", str(rows), "--metric", metrics, "-o", str(out), "--json"]
    result = json.loads(loraq(*words).stdout)
    schemas.check("result.evaluate", result)
    assert (result["rows"], result["usable"]) == (25, 24)
    assert [row["line"] for row in result["refused"]] == [25]
    by_name = {entry["model"]: entry["metrics"] for entry in result["models"]}
    assert list(by_name) == ["tiny:iso-date@1", "tiny:redact@1", "tiny@1"]
    own, other = by_name["tiny:iso-date@1"], by_name["tiny:redact@1"]
    assert set(own) == {"loss", "token_accuracy", "exact_match", metrics.split(",", 3)[3]}
    for figures in by_name.values():
        assert all(figure["low"] <= figure["value"] <= figure["high"] for figure in figures.values())
    assert own["exact_match"]["value"] > 0.8 > 0.2 > other["exact_match"]["value"], "the adapter of the task knows it"
    assert own["loss"]["value"] < other["loss"]["value"]
    gain = {entry["over"]: entry["metrics"] for entry in result["gains"]}
    assert gain["tiny@1"]["exact_match"]["low"] > 0 and gain["tiny@1"]["loss"]["low"] > 0, "surely better"
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert lines == result["lines"] and [line["line"] for line in lines] == list(range(1, 25))
    matches = sum(line["answers"][0]["exact"] for line in lines)
    assert matches / 24 == pytest.approx(own["exact_match"]["value"])
    labels = sum(line["labels"] for line in lines)
    loss = sum(line["answers"][0]["loss"] * line["labels"] for line in lines) / labels
    assert loss == pytest.approx(own["loss"]["value"])
    assert all((line["answers"][0]["text"] == line["expected"]) == line["answers"][0]["exact"] for line in lines)
    text = loraq("evaluate", "tiny:iso-date", str(rows)).stdout
    assert "loss" in text and "95% confidence" in text and "24 of 25 rows" in text


def test_the_loss_is_that_of_the_finetunes_own_evaluation(engine, loraq, tmp_path):  # noqa: F811
    rows = few(tmp_path, "redact", 16)
    train = SEEDLING / "tasks" / "redact" / "train.jsonl"
    settings = ["--set", "adapter=tiny:redact", "--set", "max_steps=1", "--set", "learning_rate=1e-9"]
    words = ["finetune", "tiny", str(train), "--name", "barely", "--eval", str(rows), *settings, "--wait", "--json"]
    tuned = json.loads(loraq(*words).stdout)["result"]
    result = json.loads(loraq("evaluate", "tiny:redact", str(rows), "--json").stdout)
    assert result["models"][0]["metrics"]["loss"]["value"] == pytest.approx(tuned["eval_loss_before"], rel=0.01)


def test_an_evaluation_is_a_gate(engine, loraq, tmp_path):  # noqa: F811
    _, client = engine
    rows = few(tmp_path, "iso-date", 12)
    words = ["evaluate", "tiny:iso-date", "tiny", str(rows), "--metric", "exact_match,loss", "--no-wait"]
    job = loraq(*words).stdout.strip()
    kept = {"action": "merge", "parts": [{"adapter": "tiny:iso-date"}]}
    conditions = {"promoted": ("exact_match_gain", ">"), "left": ("exact_match_gain_low", "<")}
    gated = {}
    for name, (metric, op) in conditions.items():
        after = [{"job": job, "on": "success", "if": {"metric": metric, "op": op, "value": 0}}]
        gated[name] = client.submit("adapter", kept | {"name": name}, after=after)
    assert client.wait(gated["promoted"], LONG_S)["state"] == "succeeded"
    assert client.wait(gated["left"], LONG_S)["state"] == "skipped"
    assert list(client.artifacts(name="tiny:promoted")) and not list(client.artifacts(name="tiny:left"))


def test_an_evaluation_whose_worker_dies_goes_on(engine, loraq, tmp_path):  # noqa: F811
    _, client = engine
    rows = few(tmp_path, "iso-date", 200)
    spec = {"models": ["tiny:iso-date", "tiny"], "metrics": ["loss", "exact_match"]}
    whole = client.wait(client.submit("evaluate", spec, {"eval": rows}), LONG_S)
    assert whole["state"] == "succeeded", whole
    job = client.submit("evaluate", spec, {"eval": rows})
    until(lambda: (client.job(job).get("progress") or {}).get("done", 0) >= 64, "some rows are scored", LONG_S)
    os.kill(worker_of(client, job), signal.SIGKILL)
    status = client.wait(job, LONG_S)
    assert status["state"] == "succeeded", status
    figures = [next(client.results(each))["models"] for each in (whole["job"], job)]
    assert figures[0] == figures[1]


def test_what_cannot_be_evaluated_is_refused(engine, loraq, tmp_path):  # noqa: F811
    rows = few(tmp_path, "iso-date", 2)
    assert "bleu" in loraq("evaluate", "tiny", str(rows), "--metric", "bleu", code=2).stderr
    assert "named twice" in loraq("evaluate", "tiny", "tiny", str(rows), code=2).stderr
    assert "no pattern" in loraq("evaluate", "tiny", str(rows), "--metric", "regex:(", code=1).stderr
    assert "at least" in loraq("evaluate", str(rows), code=2).stderr
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"text": ""}\n')
    assert "line 1" in loraq("evaluate", "tiny", str(empty), code=1).stderr
