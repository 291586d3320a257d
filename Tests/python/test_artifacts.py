"""Models and adapters: registered with the result that made them, pinned, fetched, tagged, removed. The test is the worker."""

import hashlib
import json
import pathlib

import harness
import pytest
from harness import DEADLINE_S, FakeWorker
from loraq import LoraqError
from test_queue import jsonl

KINDS = {"infer": "sequence", "prepare": "job", "finetune": "job"}


@pytest.fixture
def engine(tmp_path):
    """A broker, and a worker for models and adapters that is driven by the test."""
    kinds = [{"name": name, "class": resource_class} for name, resource_class in KINDS.items()]
    folder = harness.plugin_folder(tmp_path, "fake", "#!/bin/sh\n", {"kinds": kinds, "instances": 0})
    with harness.running(folder) as broker:
        worker = FakeWorker(broker, kinds=list(KINDS))
        worker.hello()
        worker.credit(100, "job")
        yield broker, broker.client(), worker
        worker.close()


def digest_of(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def produce(worker: FakeWorker, kind: str, name: str, text: str) -> dict:
    """Runs the next task, whose result registers `name`: a folder with one file of that text. The task."""
    (task,) = worker.tasks(1)
    assert task["kind"] == kind
    folder = pathlib.Path(task["workdir"]) / "made"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "data.txt").write_text(text)
    artifact = {"type": "adapter" if ":" in name else "model", "name": name, "digest": digest_of(text), "path": str(folder)}
    worker.finish(task, {"made": name}, artifacts=[artifact | {"bytes": len(text), "meta": {"rank": 8}}], metrics={"loss": 0.5})
    assert worker.acknowledged(task) == "accepted"
    return task


def add_model(client, worker, tmp_path, name="tiny", text="base") -> str:
    job = client.submit("prepare", {"name": name, "path": str(tmp_path)})
    produce(worker, "prepare", name, text)
    assert client.wait(job, DEADLINE_S)["state"] == "succeeded"
    return job


def line(custom_id: str, model: str) -> dict:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def answer_all(worker: FakeWorker, count: int) -> dict[str, dict]:
    """Answers that many request lines; the envelopes by custom_id."""
    tasks = {}
    for task in worker.tasks(count):
        tasks[task["custom_id"]] = task
        response = {"status_code": 200, "request_id": task["task"], "body": {"model": task["artifacts"][-1]["ref"]}}
        worker.finish(task, {"id": task["task"], "custom_id": task["custom_id"], "response": response, "error": None})
    for task in tasks.values():
        if (task["task"], task["attempt"]) in worker.held:
            worker.acknowledged(task)
    return tasks


def test_a_model_is_registered_and_its_files_come_back(engine, tmp_path):
    _, client, worker = engine
    job = add_model(client, worker, tmp_path)
    (model,) = client.artifacts(type="model")
    assert (model["name"], model["version"], model["job"]) == ("tiny", 1, job)
    assert model["digest"] == digest_of("base")
    assert model["meta"] == {"rank": 8}
    (path,) = client.download("tiny", tmp_path / "out")
    assert path == tmp_path / "out" / "inner" / "data.txt"
    assert path.read_text() == "base"
    with pytest.raises(LoraqError):
        client.request("GET", {"artifact": "tiny", "file": "../../../jobs.sqlite"})


def test_versions_tags_and_removal(engine, tmp_path):
    _, client, worker = engine
    add_model(client, worker, tmp_path)
    for text in ("one", "two"):
        client.submit("finetune", {"model": "tiny", "name": "a"}, {"train": b"{}\n"})
        task = produce(worker, "finetune", "tiny:a", text)
        assert [entry["ref"] for entry in task["artifacts"]] == ["tiny"]
        assert pathlib.Path(task["inputs"][0]["path"]).read_bytes() == b"{}\n"
    assert sorted(entry["version"] for entry in client.artifacts(name="tiny:")) == [1, 2]
    assert client.tag("tiny:a@1", "stable")["tags"] == ["stable"]
    assert [entry["version"] for entry in client.artifacts(name="tiny:a#stable")] == [1]
    assert client.remove("tiny:a@2") == ["tiny:a@2"]
    assert [entry["version"] for entry in client.artifacts(name="tiny:a")] == [1]
    with pytest.raises(LoraqError) as error:
        client.request("GET", {"artifact": "tiny:a@2"})
    assert error.value.code == "UNKNOWN_ARTIFACT"


def test_each_line_gets_its_own_adapter_pinned(engine, tmp_path):
    _, client, worker = engine
    add_model(client, worker, tmp_path)
    client.submit("finetune", {"model": "tiny", "name": "a"}, {"train": b"{}\n"})
    produce(worker, "finetune", "tiny:a", "one")
    lines = [
        line("base", "tiny"),
        line("adapter", "tiny:a"),
        line("pinned", "tiny:a@1"),
        line("nobody", "tiny:b"),
        line("path", "../x"),
    ]
    job = client.batch(jsonl(lines), model="tiny")
    worker.credit(10, "sequence")
    tasks = answer_all(worker, 3)
    assert set(tasks) == {"base", "adapter", "pinned"}
    artifacts = {entry["ref"]: entry for entry in tasks["adapter"]["artifacts"]}
    assert artifacts["tiny:a"]["version"] == 1
    assert artifacts["tiny:a"]["digest"] == digest_of("one")
    assert (pathlib.Path(artifacts["tiny:a"]["path"]) / "inner" / "data.txt").read_text() == "one"
    assert any(entry["type"] == "model" for entry in tasks["adapter"]["artifacts"])
    status = client.wait(job, DEADLINE_S)
    assert status["state"] == "succeeded"
    errors = {entry["custom_id"]: entry["error"] for entry in client.results(job, stream="errors")}
    assert set(errors) == {"nobody", "path"}
    assert "tiny:b" in json.dumps(errors["nobody"])
    assert [entry["error"]["line"] for entry in client.results(job, stream="errors", order="input")] == [4, 5]


def test_a_batch_may_name_the_adapter_that_the_job_before_will_make(engine, tmp_path):
    _, client, worker = engine
    add_model(client, worker, tmp_path)
    worker.credit(10, "sequence")
    tune = client.submit("finetune", {"model": "tiny", "name": "new"}, {"train": b"{}\n"})
    condition = {"job": tune, "on": "success", "if": {"metric": "loss", "op": "<", "value": 1}}
    batch = client.batch(jsonl([line("x", "tiny:new")]), model="tiny", after=[condition])
    assert client.job(batch)["state"] in ("splitting", "waiting")
    produce(worker, "finetune", "tiny:new", "fresh")
    task = answer_all(worker, 1)["x"]
    assert any(entry["digest"] == digest_of("fresh") for entry in task["artifacts"])
    assert client.wait(batch, DEADLINE_S)["state"] == "succeeded"


def test_what_unfinished_work_needs_is_not_removed(engine, tmp_path):
    _, client, worker = engine
    add_model(client, worker, tmp_path)
    job = client.batch(jsonl([line("x", "tiny")]), model="tiny")
    with pytest.raises(LoraqError) as error:
        client.remove("tiny")
    assert error.value.code == "IN_USE"
    worker.credit(1, "sequence")
    answer_all(worker, 1)
    client.wait(job, DEADLINE_S)
    assert client.remove("tiny") == ["tiny@1"]


def test_a_strict_file_is_refused_as_a_whole(engine, tmp_path):
    _, client, worker = engine
    add_model(client, worker, tmp_path)
    worker.credit(10, "sequence")
    job = client.batch(jsonl([line("a", "tiny"), b"{"]), model="tiny", strict=True)
    status = client.wait(job, DEADLINE_S)
    assert status["state"] == "failed"
    assert status["error"]["class"] == "user"
    assert status["counts"]["done"] == 0
    assert worker.sees_no_task()


@pytest.mark.parametrize("way", ["moved", "linked"])
def test_artifacts_outlive_a_home_that_was_moved_or_is_spelled_differently(engine, tmp_path, way):
    """A broker on such a home once took their folders for orphans and deleted them all."""
    broker, client, worker = engine
    add_model(client, worker, tmp_path)
    produced = client.submit("finetune", {"model": "tiny", "name": "a", "recipe": {}}, {"train": jsonl([{"text": "x"}])})
    produce(worker, "finetune", "tiny:a", "adapter")
    assert client.wait(produced, DEADLINE_S)["state"] == "succeeded"
    broker.kill()
    other = harness.Broker(broker.workers)
    other.home.rmdir()
    try:
        if way == "moved":
            broker.home.rename(other.home)
        else:
            other.home.symlink_to(broker.home)
        other.start()
        moved = other.client()
        for name, text in (("tiny", "base"), ("tiny:a", "adapter")):
            target = tmp_path / name
            moved.download(name, target)
            assert (target / "inner" / "data.txt").read_text() == text
    finally:
        other.close()


def test_a_registered_artifact_survives_the_brokers_death(engine, tmp_path):
    broker, client, worker = engine
    add_model(client, worker, tmp_path)
    broker.restart()
    (model,) = client.artifacts(type="model")
    assert model["version"] == 1
    assert client.download("tiny@1", tmp_path / "out")[0].read_text() == "base"
