"""The native worker behind the real broker, on the embedded model: killed in the middle, nothing lost, nothing different."""

import json
import os
import pathlib
import signal

import harness
import pytest
from harness import DEADLINE_S, until

import schemas

SEEDLING = harness.ROOT / "examples" / "seedling"
LONG_S = 4 * DEADLINE_S
RECIPE = {
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj", "v_proj"],
    "learning_rate": 2e-3,
    "max_steps": 60,
    "save_steps": 10,
    "per_device_train_batch_size": 4,
    "seed": 7,
}


def rows(task: str, count: int) -> list[dict]:
    path = SEEDLING / "tasks" / task / "eval.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()[:count]]


def lines(model: str, count: int, **fields) -> list[dict]:
    """Chat lines of the embedded model's own kind of message."""
    made = []
    for number in range(count):
        messages = rows("iso-date", 50)[number % 50]["messages"][:-1]
        body = {"model": model, "messages": messages, "max_tokens": 16} | fields
        made.append({"custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions", "body": body})
    return made


@pytest.fixture(scope="module")
def engine():
    if not (harness.BIN / "lora-worker").exists():
        pytest.fail(f"{harness.BIN}/lora-worker is not there: build it, or set LORAQ_BIN")
    with harness.running(harness.ROOT / "workers") as broker:
        client = broker.client(timeout=60)
        job = client.submit("prepare", {"name": "tiny", "path": str(SEEDLING / "model")})
        status = client.wait(job, LONG_S)
        assert status["state"] == "succeeded", status
        schemas.check("result.prepare", status["result"])
        yield broker, client


def texts(client, job: str) -> dict[str, str]:
    """The answers by custom_id; every line is checked against the schema."""
    found = {}
    for line in client.results(job, stream="all"):
        schemas.check("line.output", line)
        assert line["error"] is None, line
        assert line["custom_id"] not in found, "answered twice"
        found[line["custom_id"]] = line["response"]["body"]["choices"][0]["message"]["content"]
    return found


def worker_of(client, job: str) -> int:
    """The process that runs a job of one task: told by its newest `task.started`."""
    started = [event for event in client.events(job=job) if event["type"] == "task.started"]
    workers = {worker["instance"]: worker for worker in client.workers()["workers"]}
    return workers[started[-1]["worker"]]["pid"]


def finetune(client, name: str) -> str:
    return client.finetune("tiny", SEEDLING / "tasks" / "iso-date" / "train.jsonl", name, recipe=RECIPE)


def test_a_finetune_whose_worker_is_killed_ends_as_if_nothing_had_happened(engine):
    _, client = engine
    whole = client.wait(finetune(client, "whole"), LONG_S)
    assert whole["state"] == "succeeded", whole
    schemas.check("result.finetune", whole["result"])
    broken = finetune(client, "broken")
    until(lambda: (client.job(broken).get("progress") or {}).get("done", 0) >= 25, "the fine-tune is in its middle", LONG_S)
    os.kill(worker_of(client, broken), signal.SIGKILL)
    status = client.wait(broken, LONG_S)
    assert status["state"] == "succeeded", status
    assert status["result"]["resumed_from_step"] >= 20
    assert status["result"]["last_loss"] == whole["result"]["last_loss"]
    adapters = {entry["name"]: entry for entry in client.artifacts(name="tiny:")}
    assert adapters["tiny:broken"]["digest"] == adapters["tiny:whole"]["digest"]


def test_an_urgent_job_takes_the_place_of_a_finetune_which_goes_on_bit_equal(engine):
    """KINDS 21 and 23: checkpointed, put back at no cost, resumed; its adapter is the one of an undisturbed run."""
    _, client = engine
    instances = next(plugin for plugin in client.workers()["plugins"] if plugin["name"] == "lora")["instances"]
    client.scale("lora", 1)
    until(lambda: [w["state"] for w in client.workers()["workers"] if w["state"] != "stopped"] == ["ready"], "one worker", LONG_S)
    whole = client.wait(finetune(client, "undisturbed"), LONG_S)
    slow = finetune(client, "patient")
    until(lambda: (client.job(slow).get("progress") or {}).get("done", 0) >= 15, "the fine-tune is in its middle", LONG_S)
    train = SEEDLING / "tasks" / "iso-date" / "train.jsonl"
    spec = {"model": "tiny", "name": "urgent", "recipe": RECIPE | {"max_steps": 5}}
    urgent = client.submit("finetune", spec, {"train": train}, priority=60)
    assert client.wait(urgent, LONG_S)["state"] == "succeeded"
    status = client.wait(slow, LONG_S)
    assert status["state"] == "succeeded", status
    assert status["result"]["resumed_from_step"] >= 15
    assert status["result"]["last_loss"] == whole["result"]["last_loss"]
    ended = {event["job"]: event["event"] for event in client.events() if event["type"] == "job.succeeded"}
    assert ended[urgent] < ended[slow]
    starts = [event for event in client.events(job=slow) if event["type"] == "task.started"]
    assert len(starts) == 2
    assert not [event for event in client.events(job=slow) if event["type"] == "task.retry"], "it cost nothing"
    adapters = {entry["name"]: entry for entry in client.artifacts(name="tiny:")}
    assert adapters["tiny:patient"]["digest"] == adapters["tiny:undisturbed"]["digest"]
    client.scale("lora", instances)


def test_a_running_finetune_and_a_batch_survive_the_brokers_death(engine):
    broker, client = engine
    tune = finetune(client, "survivor")
    batch = client.batch(lines("tiny", 300, temperature=0))
    until(lambda: (client.job(tune).get("progress") or {}).get("done", 0) >= 3, "the fine-tune runs", LONG_S)
    pid = worker_of(client, tune)
    until(lambda: client.job(batch)["counts"]["done"] >= 20, "the batch runs", LONG_S)
    broker.restart()
    status = client.wait(tune, LONG_S)
    assert status["state"] == "succeeded", status
    assert status["result"].get("resumed_from_step") is None, "it was started anew"
    os.kill(pid, 0)
    assert client.wait(batch, LONG_S)["counts"]["done"] == 300
    assert len(texts(client, batch)) == 300


def test_answers_do_not_depend_on_company_workers_or_a_kill(engine):
    """KINDS 18: the same line and seed give the same bytes alone, in any batch, on any worker."""
    _, client = engine
    fields = {"temperature": 1.0, "top_p": 0.9, "seed": 5}
    alone = client.batch(lines("tiny", 40, **fields))
    client.wait(alone, LONG_S)
    crowd = client.batch(lines("tiny", 40, **fields) + [line | {"custom_id": f"x{n}"} for n, line in enumerate(lines("tiny", 200))])
    until(lambda: client.job(crowd)["counts"]["done"] >= 10, "the batch runs", LONG_S)
    for worker in client.workers()["workers"]:
        if worker["held"] and worker.get("pid"):
            os.kill(worker["pid"], signal.SIGKILL)
    client.wait(crowd, LONG_S)
    first, second = texts(client, alone), texts(client, crowd)
    assert len(second) == 240
    assert {key: second[key] for key in first} == first


def test_every_wrong_line_fails_alone_and_by_name(engine):
    """KINDS 15: one error with line number and key, and the other lines are answered."""
    _, client = engine
    good = lines("tiny", 3, temperature=0)
    wrong = [
        ("temperature", {"temperature": "hot"}),
        ("messages", {"messages": []}),
        ("messages", {"messages": None}),
        ("max_tokens", {"max_tokens": -1}),
        ("unheard_of", {"unheard_of": 1}),
        ("logit_bias", {"logit_bias": []}),
        ("model", {"model": "tiny:nobody"}),
    ]
    bad = []
    for number, (_, change) in enumerate(wrong):
        line = lines("tiny", 1)[0]
        bad.append(line | {"custom_id": f"bad{number}", "body": line["body"] | change})
    job = client.batch(good + bad)
    status = client.wait(job, LONG_S)
    assert status["counts"]["done"] == 3
    errors = {line["custom_id"]: line["error"] for line in client.results(job, stream="errors")}
    for number, (key, _) in enumerate(wrong):
        error = errors[f"bad{number}"]
        assert key in json.dumps(error), error
        assert error["line"] == len(good) + number + 1


def test_data_without_labels_and_bad_rows_are_refused_by_line(engine, tmp_path):
    """KINDS 1 and 2: refused before the first step, with lines and reasons."""
    _, client = engine
    file = pathlib.Path(tmp_path / "train.jsonl")
    file.write_text('{"messages": [{"role": "user", "content": "x"}]}\n{not json\n')
    status = client.wait(client.finetune("tiny", file, "never", recipe=RECIPE), LONG_S)
    assert status["state"] == "failed"
    assert status["error"]["class"] == "user"
    assert not [entry for entry in client.artifacts(name="tiny:") if entry["name"] == "tiny:never"]
    check = client.wait(client.submit("check", {"action": "data", "model": "tiny"}, {"data": file}), LONG_S)
    if check["state"] == "succeeded":
        schemas.check("result.check", check["result"])
        assert sorted(row["line"] for row in check["result"]["refused"]) == [1, 2]


def test_adapters_are_registered_from_peft_folders_or_refused(engine, tmp_path):
    _, client = engine
    spec = {"action": "register", "model": "tiny", "name": "given", "path": str(SEEDLING / "adapters" / "iso-date")}
    status = client.wait(client.submit("adapter", spec), LONG_S)
    assert status["state"] == "succeeded", status
    schemas.check("result.adapter", status["result"])
    row = rows("iso-date", 1)[0]["messages"]
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}
    job = client.batch([line | {"body": {"model": "tiny:given", "messages": row[:-1], "temperature": 0}}])
    client.wait(job, LONG_S)
    assert texts(client, job) == {"a": row[-1]["content"]}
    (tmp_path / "adapter_config.json").write_text("{}")
    refused = client.wait(client.submit("adapter", spec | {"name": "empty", "path": str(tmp_path)}), LONG_S)
    assert refused["state"] == "failed"
    assert refused["error"]["class"] == "user"


def packed_maps(pid: int) -> tuple[int, set[str]]:
    """Bytes of proportional share (PSS) that a process has of the packed model, and the inodes that it maps."""
    share, inodes, inside = 0, set(), False
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            inside = words[-1].startswith("/") and pathlib.Path(words[-1]).name == "packed.bin"
            if inside:
                inodes.add(words[4])
        elif inside and words[0] == "Pss:":
            share += int(words[1]) * 1024
    return share, inodes


def test_two_workers_share_one_copy_of_the_base(engine):
    broker, client = engine
    client.scale("lora", 2)

    def pids() -> list[int]:
        return [worker["pid"] for worker in client.workers()["workers"] if worker["state"] == "ready"]

    until(lambda: len(pids()) == 2, "two workers", LONG_S)
    # More lines than one worker takes, so that both work.
    job = client.batch(lines("tiny", 600, temperature=0))
    until(lambda: all(packed_maps(pid)[1] for pid in pids()), "both map the model", LONG_S)
    client.wait(job, LONG_S)
    maps = [packed_maps(pid) for pid in pids()]
    (packed,) = (broker.home / "models").glob("*/packed.bin")
    assert maps[0][1] == maps[1][1] == {str(packed.stat().st_ino)}
    assert 0 < sum(share for share, _ in maps) <= 1.05 * packed.stat().st_size
    client.scale("lora", 1)


def test_a_common_beginning_is_computed_once(engine):
    _, client = engine
    long = lines("tiny", 40, temperature=0)
    for line in long:
        line["body"]["messages"] = [{"role": "user", "content": "Oslo " * 100}, *line["body"]["messages"]]
    shared = client.wait(client.batch(long), LONG_S)["usage"]
    # The page of 64 tokens that all have, but for the line that computes it.
    assert shared["cached_tokens"] == 39 * 64


def test_a_cancelled_line_keeps_what_it_had_produced(engine):
    _, client = engine
    line = lines("tiny", 1, max_tokens=400, temperature=1.0, seed=3, logit_bias={"2": -100, "0": -100})[0]
    short = line | {"body": line["body"] | {"max_tokens": 1}}
    mixed = [(line if number % 2 else short) | {"custom_id": f"c{number}"} for number in range(400)]
    job = client.batch(mixed)
    # Short and long lines take turns: once short ones are answered, long ones beside them are being answered.
    until(lambda: client.job(job)["counts"]["done"] >= 4, "it runs", LONG_S)
    client.cancel(job)
    assert client.wait(job, LONG_S)["state"] == "cancelled"

    def partial() -> list[dict]:
        bodies = [found["response"]["body"] for found in client.results(job, stream="all") if found.get("response")]
        return [body for body in bodies if body["choices"][0]["finish_reason"] == "cancelled"]

    kept = until(lambda: partial(), "what was produced is kept", LONG_S)
    assert all(body["usage"]["completion_tokens"] < 400 for body in kept)
