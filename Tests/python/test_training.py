"""Training one can trust: rows held out, the best state kept, early ends, and the same decision after a kill."""

import json
import shutil

import pytest
from test_adapters import engine, loraq  # noqa: F401
from test_engine import LONG_S, RECIPE, SEEDLING
from test_worker_failpoints import Engine

import schemas

TRAIN = SEEDLING / "tasks" / "iso-date" / "train.jsonl"
#: Ends early: a gain as great as that does not come twice.
STOPPING = RECIPE | {
    "val_set_size": 40,
    "eval_steps": 5,
    "save_steps": 4,
    "load_best_model_at_end": True,
    "early_stopping_patience": 2,
    "early_stopping_threshold": 50,
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A broker whose worker can be made to die at a numbered place."""
    made = Engine(tmp_path_factory.mktemp("plugins"))
    yield made
    made.broker.close()


def without_times(lines: list[dict]) -> list[dict]:
    return [{key: value for key, value in line.items() if key not in ("seconds", "tokens_per_second")} for line in lines]


def metrics_of(client, job: str) -> list[dict]:
    """What the broker sends of the job's `metrics.jsonl`."""
    text = b""
    while True:
        reply = client.request("LOGS", {"job": job, "stream": "metrics", "after": len(text)})
        text += reply.bodies[0][1] if reply.bodies else b""
        if reply.header["complete"]:
            return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(("name", "visit"), [("checkpointWritten", 2), ("checkpointPlaced", 2), ("checkpointPlaced", 3)])
def test_a_run_killed_in_the_middle_comes_to_the_same_decision(killed, name, visit):
    """KINDS 20: rows held out, best state, early stop: as if nothing had happened, to the last bit."""
    whole = f"whole-{name}-{visit}"
    tune = lambda adapter: killed.wait(killed.client.finetune("tiny", TRAIN, adapter, recipe=STOPPING))  # noqa: E731
    expected = tune(whole)
    mark = killed.restart(name, visit)
    broken = tune(f"broken-{name}-{visit}")
    assert mark.exists() and broken["result"]["resumed_from_step"] > 0
    for key in ("evaluation", "stopped", "eval_loss_before", "eval_loss_after", "steps", "first_loss", "last_loss"):
        assert broken["result"][key] == expected["result"][key], key
    schemas.check("result.finetune", broken["result"])
    stopped, evaluation = broken["result"]["stopped"], broken["result"]["evaluation"]
    assert stopped["reason"] == "early_stopping" and stopped["step"] < stopped["planned_steps"] == 60
    assert evaluation["held_out"] and evaluation["rows"] == len(evaluation["lines"]) == 40
    assert broken["result"]["rows"] + 40 == len(TRAIN.read_text().splitlines()), "what is held out is not trained"
    assert evaluation["best_loss"] == broken["result"]["eval_loss_after"]
    digests = {entry["name"]: entry["digest"] for entry in killed.client.artifacts(name="tiny:")}
    assert digests[f"tiny:{whole}"] == digests[f"tiny:broken-{name}-{visit}"]
    lines = [without_times(metrics_of(killed.client, job["job"])) for job in (expected, broken)]
    assert lines[0] == lines[1]
    evaluated = [line for line in lines[0] if "eval_loss" in line]
    assert min(evaluated[1:], key=lambda line: line["eval_loss"])["step"] == evaluation["best_step"] == evaluation["adapter_step"]
    assert lines[0][-1]["stopped"] == "early_stopping"


def test_a_run_that_diverges_fails_by_name_and_keeps_its_last_good_checkpoint(engine, loraq, tmp_path):  # noqa: F811
    broker, client = engine
    # The rate rises from near 0: good checkpoints first, then none.
    recipe = {"adapter": "tiny:iso-date", "learning_rate": 60.0, "warmup_steps": 60, "max_steps": 60, "save_steps": 2, "seed": 7}
    recipe |= {"per_device_train_batch_size": 4, "max_grad_norm": 0, "divergence_threshold": 2, "divergence_patience": 4}
    job = client.finetune("tiny", TRAIN, "gone-wrong", recipe=recipe)
    status = client.wait(job, LONG_S)
    assert status["state"] == "failed", status
    error = status["error"]
    assert error["code"] in ("DIVERGED", "NON_FINITE") and error["class"] == "user", error
    assert "learning rate" in error["message"] and "step-" in error["message"], error
    assert metrics_of(client, job)[-1]["stopped"] in ("divergence", "non_finite")
    # What is named is there, and is an adapter.
    name = error["message"].rsplit("/", 1)[1].split()[0]
    folder = broker.home / "runs" / job / "work" / "checkpoints" / name
    copy = tmp_path / "good"
    shutil.copytree(folder, copy)
    loraq("adapters", "add", "rescued", str(copy), "--model", "tiny")


def test_what_cannot_be_evaluated_is_refused_before_anything_is_sent(engine, loraq):  # noqa: F811
    base = ("finetune", "tiny", str(TRAIN), "--name", "never")
    best = ("--set", "load_best_model_at_end=true")
    assert "--eval" in loraq(*base, *best, "--set", "eval_steps=5", code=2).stderr
    assert "eval_steps" in loraq(*base, *best, "--set", "val_set_size=0.1", code=2).stderr
    both = ("--eval", str(TRAIN), "--set", "val_set_size=0.1")
    assert "cannot both" in loraq(*base, *both, code=2).stderr
    refused = loraq(*base, "--set", "val_set_size=100000", "--wait", code=1).stderr
    assert "val_set_size" in refused and "none would be left" in refused


def test_rows_that_are_trained_and_evaluated_are_told_of(engine, tmp_path):  # noqa: F811
    """KINDS 1: every row is trained, evaluated or refused, and the lines say which."""
    _, client = engine
    train = tmp_path / "train.jsonl"
    rows = TRAIN.read_text().splitlines(keepends=True)
    train.write_text("".join(["no row\n", *rows[:6], *rows[:6]]))
    recipe = RECIPE | {"max_steps": 2, "val_set_size": 0.3}
    status = client.wait(client.finetune("tiny", train, "overlapping", recipe=recipe), LONG_S)
    result = status["result"]
    lines = result["evaluation"]["lines"]
    assert len(lines) == 4 and 1 not in lines
    assert result["rows"] == 13 - 4 and result["trained_rows"] == 12 - 4 and [row["line"] for row in result["refused"]] == [1]
    twins = {line + 6 if line < 8 else line - 6 for line in lines} - set(lines)
    assert any(warning.startswith(f"{len(twins)} training row") for warning in result["warnings"]), result["warnings"]
    again = client.wait(client.finetune("tiny", train, "overlapping", recipe=recipe), LONG_S)
    assert again["result"]["evaluation"]["lines"] == lines, "the same rows each time"
