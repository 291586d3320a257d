"""SIGKILL at every numbered place of a native worker (Sources/LinuxSystem/Failpoint.swift), in inference and in a fine-tune."""

import json
import shutil

import harness
import pytest
from harness import until
from test_engine import LONG_S, RECIPE, SEEDLING, lines, texts
from test_failpoints import POINTS

#: By the visit at which the process dies.
IN_A_BATCH = [
    ("helloMade", 1),
    ("welcomed", 1),
    ("taskReceived", 1),
    ("taskEnded", 1),
    ("taskEnded", 9),
    ("resultsSent", 1),
    ("resultsSent", 3),
    ("resultsAcknowledged", 1),
    ("beatMade", 3),
]
IN_A_FINETUNE = [("checkpointWritten", 1), ("checkpointPlaced", 1)]
AT_THE_END = {"byeMade"}
SHORT = RECIPE | {"max_steps": 12, "save_steps": 4}


class Engine:
    """A broker with the native worker, whose manifest may arm a place."""

    def __init__(self, folder) -> None:
        self.folder = folder
        shutil.copytree(harness.ROOT / "workers" / "lora", folder / "lora")
        self.manifest = json.loads((folder / "lora" / "worker.json").read_text())
        self.broker = harness.Broker([folder])
        self.broker.start()
        self.client = self.broker.client(timeout=60)
        self.wait(self.client.submit("prepare", {"name": "tiny", "path": str(SEEDLING / "model")}))
        self.expected = texts(self.client, self.done(self.client.batch(lines("tiny", 40, temperature=1.0, seed=5), model="tiny")))
        self.whole = self.wait(self.finetune("whole"))["result"]

    def finetune(self, name: str) -> str:
        return self.client.finetune("tiny", SEEDLING / "tasks" / "iso-date" / "train.jsonl", name, recipe=SHORT)

    def wait(self, job: str) -> dict:
        status = self.client.wait(job, LONG_S)
        assert status["state"] == "succeeded", status
        return status

    def done(self, job: str) -> str:
        self.wait(job)
        return job

    def restart(self, name: str, visit: int):
        """Starts broker and worker again, the worker with that place armed; the file that tells that it was reached."""
        self.broker.stop()
        mark = self.broker.home / f"reached-{name}-{visit}"
        environment = {"LORAQ_FAILPOINT": f"{POINTS[name]}:{visit}:{mark}"}
        (self.folder / "lora" / "worker.json").write_text(json.dumps(self.manifest | {"env": environment}))
        self.broker.start()
        return mark


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    if not (harness.BIN / "lora-worker").exists():
        pytest.fail(f"{harness.BIN}/lora-worker is not there: build it, or set LORAQ_BIN")
    engine = Engine(tmp_path_factory.mktemp("plugins"))
    yield engine
    engine.broker.close()


@pytest.mark.parametrize(("name", "visit"), IN_A_BATCH)
def test_a_worker_is_killed_at_every_place_in_a_batch(engine, name, visit):
    """KINDS 20: each line is answered once, with the very text of an undisturbed run."""
    mark = engine.restart(name, visit)
    job = engine.done(engine.client.batch(lines("tiny", 40, temperature=1.0, seed=5), model="tiny"))
    until(mark.exists, f"{name} is reached {visit} times")
    assert texts(engine.client, job) == engine.expected
    proof = engine.client.verify(job)
    assert proof["verified"], proof


@pytest.mark.parametrize(("name", "visit"), IN_A_FINETUNE)
def test_a_worker_is_killed_at_every_place_of_a_checkpoint(engine, name, visit):
    """KINDS 20: the fine-tune goes on from whole checkpoints only and ends with the same adapter."""
    mark = engine.restart(name, visit)
    result = engine.wait(engine.finetune(f"after-{name}"))["result"]
    assert mark.exists()
    assert result["adapter"]["digest"] == engine.whole["adapter"]["digest"]


def test_a_worker_is_killed_when_it_has_nothing_left_but_to_say_goodbye(engine):
    mark = engine.restart("byeMade", 1)
    job = engine.done(engine.client.batch(lines("tiny", 40, temperature=1.0, seed=5), model="tiny"))
    engine.client.drain("lora-1")
    until(mark.exists, "it dies")
    assert texts(engine.client, job) == engine.expected
    assert engine.client.verify(job)["verified"]


def test_every_place_in_a_worker_is_in_this_file():
    of_workers = {name for name, number in POINTS.items() if number >= 32}
    assert of_workers == {name for name, _ in IN_A_BATCH + IN_A_FINETUNE} | AT_THE_END
