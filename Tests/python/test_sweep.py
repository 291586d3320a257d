"""`loraq sweep`: grids and stages as graphs of jobs, whatever is killed on the way; gates that promote."""

import json
import os
import signal

import pytest
from harness import until
from test_adapters import LONG_S, engine, loraq  # noqa: F401
from test_engine import SEEDLING, worker_of
from test_evaluate import few

import schemas

TRAIN = str(SEEDLING / "tasks" / "iso-date" / "train.jsonl")
QUICK = ["--set", "max_steps=6", "--set", "per_device_train_batch_size=8", "--set", "seed=1"]
QUICK += ["--set", "r=4", "--set", "lora_alpha=8"]


def sweep(loraq, rows, name, *words, code=0):  # noqa: F811
    return loraq("sweep", "tiny", TRAIN, "--eval", str(rows), "--name", name, *QUICK, *words, code=code)


def shown(loraq, job):  # noqa: F811
    return json.loads(loraq("sweep", "show", job, "--json").stdout)


def test_the_best_of_a_grid_is_registered_whatever_is_killed(engine, loraq, tmp_path):  # noqa: F811
    broker, client = engine
    rows = few(tmp_path, "iso-date", 8)
    grid = ["--grid", "r=2,4", "learning_rate=1e-5,4e-3"]
    quiet = json.loads(sweep(loraq, rows, "quiet", *grid, "--wait", "--json").stdout)
    schemas.check("result.choose", quiet["result"])
    table = quiet["result"]["candidates"]
    assert [row["title"] for row in table] == [f"r={r} learning_rate={rate}" for r in (2, 4) for rate in ("1e-5", "4e-3")]
    assert [row["settings"] for row in table][:2] == [{"r": 2, "learning_rate": 1e-5}, {"r": 2, "learning_rate": 4e-3}]
    best = min(table, key=lambda row: row["value"])
    assert quiet["result"]["chosen"] == best["adapter"] + "@1" and best["settings"]["learning_rate"] == 4e-3
    assert best["metrics"]["loss_low"] <= best["value"] <= best["metrics"]["loss_high"]
    assert table[2]["training"]["trainable_parameters"] == 2 * table[0]["training"]["trainable_parameters"]
    (made,) = client.artifacts(name="tiny:quiet")
    (candidate,) = client.artifacts(name=best["adapter"])
    assert (made["digest"], made["meta"]["base"]) == (candidate["digest"], candidate["meta"]["base"])
    assert made["meta"]["parents"][0]["adapter"] == best["adapter"] + "@1"
    assert made["meta"]["chosen_by"] == {"metric": "loss", "value": best["value"]}

    # Sent once more, as after a command that was killed: the same jobs.
    twice = json.loads(sweep(loraq, rows, "quiet", *grid, "--id", quiet["job"], "--json").stdout)
    assert twice["duplicate"] and len(list(client.jobs(label="sweep-" + quiet["job"][-12:]))) == len(twice["jobs"]) == 9

    submitted = json.loads(sweep(loraq, rows, "stormy", *grid, "--json").stdout)
    job = submitted["job"]
    assert len(submitted["jobs"]) == 9 and submitted["label"] == "sweep-" + job[-12:]
    first = submitted["jobs"][0]
    until(lambda: client.job(first)["state"] in ("running", "succeeded"), "the first fine-tune runs", LONG_S)
    os.kill(worker_of(client, first), signal.SIGKILL)
    broker.restart()
    half = shown(loraq, submitted["label"])
    assert half["job"] == job and len(half["candidates"]) == 4
    until(lambda: sum(row["state"] == "evaluated" for row in shown(loraq, job)["candidates"]) >= 2, "two are done", LONG_S)
    broker.restart()
    text = loraq("wait", job).stdout
    assert "best" in text and "EVAL_LOSS" in text and "tiny:stormy is registered" in text
    again = client.job(job)["result"]["candidates"]
    assert [row["value"] for row in again] == [row["value"] for row in table], "the same as if nothing had happened"
    assert shown(loraq, job)["best"] == f"tiny:stormy.{job[-6:]}.{best['adapter'][-1]}"
    assert next(client.artifacts(name="tiny:stormy"))["digest"] == made["digest"]
    assert "CANDIDATE" in loraq("status", job).stdout


def test_one_that_fails_is_told_and_the_others_are_compared(engine, loraq, tmp_path):  # noqa: F811
    _, client = engine
    rows = few(tmp_path, "iso-date", 4)
    words = ["--grid", "target_modules=attention,q_proj+v_proj,nothing", "--metric", "exact_match", "--wait"]
    text = sweep(loraq, rows, "some", *words).stdout
    assert "nothing" in text and "failed" in text and "1 could not be compared" in text
    table = shown(loraq, text.split()[0])["candidates"]
    assert [row["state"] for row in table] == ["evaluated", "evaluated", "failed"]
    assert "matches no module" in table[2]["reason"] and table[1]["settings"]["target_modules"] == ["q_proj", "v_proj"]
    done = sweep(loraq, rows, "none", "--grid", "target_modules=nothing,nobody", "--wait", code=1)
    assert "NO_CANDIDATE" in done.stderr and not list(client.artifacts(name="tiny:none"))


STAGES = ["attention", "embeddings", "mlp", "rank 8", "rank 16"]


def progressive(loraq, rows, name, target, gain, *words):  # noqa: F811
    words = ["--progressive", "--target", target, "--min-gain", gain, "--set", "learning_rate=4e-3", "--wait", *words]
    text = sweep(loraq, rows, name, *words).stdout
    result = shown(loraq, text.split()[0])
    assert [row["title"] for row in result["candidates"]] == STAGES
    assert result["conclusion"] in text and "GAIN" in text
    return result, [row["state"] for row in result["candidates"]]


def words_of(targets) -> list[str]:
    return [targets] if isinstance(targets, str) else targets


def test_each_stage_goes_on_from_the_one_before(engine, loraq, tmp_path):  # noqa: F811
    _, client = engine
    rows = few(tmp_path, "iso-date", 8)
    result, states = progressive(loraq, rows, "all", "0.0001", "0")
    assert states == ["evaluated"] * 5 and result["conclusion"].startswith("every stage ran")
    table = result["candidates"]
    values = [row["value"] for row in table]
    assert result["best"] == min(table, key=lambda row: row["value"])["adapter"]
    parameters = [row["training"]["trainable_parameters"] for row in table]
    assert parameters[0] < parameters[1] < parameters[2] and parameters[3:] == [2 * parameters[2], 4 * parameters[2]]
    for before, row in zip(values, table[1:], strict=False):
        assert row["metrics"]["loss_gain"] == pytest.approx(before - row["value"], abs=1e-6)
    # What a stage begins with computes what the one before computed.
    starts = []
    for row in table[1:]:
        config = row["settings"] | {"target_modules": ",".join(words_of(row["settings"]["target_modules"]))}
        recipe = [f"{name}={config[name]}" for name in ("target_modules", "r", "lora_alpha")]
        recipe += ["max_steps=1", "learning_rate=1e-12", "adapter=" + table[len(starts)]["adapter"]]
        words = [word for setting in recipe for word in ("--set", setting)]
        done = json.loads(
            loraq("finetune", "tiny", TRAIN, "--name", "start", "--eval", str(rows), *words, "--wait", "--json").stdout
        )
        starts.append(done["result"]["eval_loss_before"])
    assert starts == pytest.approx(values[:4], rel=0.01)
    assert list(client.artifacts(name="tiny:all"))


def test_stages_stop_at_the_target(engine, loraq, tmp_path):  # noqa: F811
    rows = few(tmp_path, "iso-date", 8)
    result, states = progressive(loraq, rows, "met", "100", "0")
    assert states == ["evaluated", "skipped", "skipped", "skipped", "skipped"]
    assert result["conclusion"].startswith("attention meets the target: eval_loss")
    assert "does not hold" in result["candidates"][1]["reason"] and result["adapter"] == "tiny:met"


def test_stages_stop_where_they_no_longer_pay(engine, loraq, tmp_path):  # noqa: F811
    rows = few(tmp_path, "iso-date", 4)
    result, states = progressive(loraq, rows, "paid", "1", "0.99", "--metric", "exact_match")
    assert states == ["evaluated", "evaluated", "skipped", "skipped", "skipped"]
    assert result["conclusion"].startswith("embeddings no longer pays: it gained")


def test_a_gate_promotes_only_what_is_better(engine, loraq, tmp_path):  # noqa: F811
    _, client = engine
    rows = few(tmp_path, "iso-date", 12)
    job = loraq("evaluate", "tiny:iso-date", "tiny", str(rows), "--metric", "exact_match", "--no-wait").stdout.strip()
    loraq("adapters", "promote", "tiny:iso-date", "--name", "live", "--after", f"{job}:exact_match_low>0.5")
    shut = ["adapters", "promote", "tiny:redact", "--name", "live", "--after", f"{job}:exact_match_gain_low<0"]
    assert "does not hold" in loraq(*shut, code=1).stderr
    (live,) = client.artifacts(name="tiny:live")
    assert live["digest"] == next(client.artifacts(name="tiny:iso-date"))["digest"] and live["version"] == 1


def test_what_cannot_be_swept_is_refused_before_anything_is_sent(engine, loraq, tmp_path):  # noqa: F811
    _, client = engine
    rows = few(tmp_path, "iso-date", 2)
    before = [job["job"] for job in client.jobs()]
    cases = {
        "unknown recipe field `rnak`": ["--grid", "rnak=4"],
        "give --grid or --progressive": [],
        "a value is missing": ["--grid", "r=4,"],
        "r is given twice": ["--grid", "r=4", "r=8"],
        "4 is given twice": ["--grid", "r=4,4"],
        "at most 32": ["--grid", "r=1,2,3,4,5,6", "seed=1,2,3,4,5,6"],
        "expected name=value": ["--grid", "eight"],
        "--grid r=big": ["--grid", "r=big"],
        "needs --target": ["--progressive"],
        "exclude each other": ["--progressive", "--target", "1", "--grid", "r=4"],
        "decides target_modules itself": ["--progressive", "--target", "1", "--set", "target_modules=mlp"],
        "already": ["--grid", "r=4", "--name", "iso-date"],
        "bleu": ["--grid", "r=4", "--metric", "bleu"],
    }
    for message, words in cases.items():
        assert message in sweep(loraq, rows, "never", *words, code=2).stderr, message
    assert "--eval" in loraq("sweep", "tiny", TRAIN, "--name", "never", "--grid", "r=4", code=2).stderr
    assert "is no sweep" in loraq("sweep", "show", next(client.jobs(kind="prepare"))["job"], code=2).stderr
    assert [job["job"] for job in client.jobs()] == before
