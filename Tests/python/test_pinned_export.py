"""An export is of one version, also when a newer one is registered while the files are read."""

import contextlib
import json
import pathlib
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator

import pytest
import zmq
from harness import BIN, DEADLINE_S, Broker
from loraq import Message
from test_artifacts import add_model, digest_of, engine, produce

__all__ = ["engine"]


class Between:
    """Passes one client's requests on to a broker and lets the test look at each before it goes on."""

    def __init__(self, broker: Broker, home: pathlib.Path, look: Callable[[Message], None]) -> None:
        self._look = look
        self._over = threading.Event()
        self._bound = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(broker.endpoint("control"), f"ipc://{home}/run/control"))
        self._thread.start()
        assert self._bound.wait(DEADLINE_S)

    def _run(self, there: str, here: str) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as front, context.socket(zmq.DEALER) as back:
            front.setsockopt(zmq.LINGER, 0)
            back.setsockopt(zmq.LINGER, 0)
            back.connect(there)
            front.bind(here)
            self._bound.set()
            while not self._over.is_set():
                if front.poll(20):
                    peer, *frames = front.recv_multipart()
                    self._look(Message.parse(frames))
                    back.send_multipart(frames)
                    front.send_multipart([peer, *back.recv_multipart()])

    def close(self) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture
def export(engine) -> Iterator[Callable]:
    """Runs `loraq adapters export`; `before` is called once, before the first bytes of a file are read."""
    broker, _, _ = engine
    with tempfile.TemporaryDirectory(prefix="lq-", dir="/tmp") as home:
        (pathlib.Path(home) / "run").mkdir()

        def run(*words: str, before: Callable[[], None] = lambda: None) -> tuple[subprocess.CompletedProcess, list[str]]:
            read: list[str] = []

            def look(message: Message) -> None:
                if message.verb == "GET" and "file" in message.header:
                    if not read:
                        before()
                    read.append(message.header["artifact"])

            with contextlib.closing(Between(broker, pathlib.Path(home), look)):
                command = [str(BIN / "loraq"), "adapters", "export", *words, "--home", home]
                done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
            return done, read

        yield run


def train(client, worker, text: str) -> None:
    client.submit("finetune", {"model": "tiny", "name": "a"}, {"train": b'{"prompt":"a","completion":"b"}\n'})
    produce(worker, "finetune", "tiny:a", text)


def test_the_files_of_an_export_are_of_one_version(engine, export, tmp_path):
    _, client, worker = engine
    add_model(client, worker, tmp_path)
    train(client, worker, "the first")
    out = tmp_path / "out"
    done, read = export("tiny:a", str(out), "--json", before=lambda: train(client, worker, "a later one"))
    assert done.returncode == 0, done.stderr
    assert (out / "inner" / "data.txt").read_text() == "the first"
    assert read == ["tiny:a@1"]
    assert json.loads(done.stdout)["artifact"] == "tiny:a@1"
    assert [artifact["digest"] for artifact in client.artifacts(name="tiny:a@2")] == [digest_of("a later one")]


def test_an_export_for_llama_cpp_takes_the_base_that_the_adapter_was_made_for(engine, export, tmp_path):
    _, client, worker = engine

    def add(kind: str, name: str, base: str) -> None:
        inputs = {"train": b"{}\n"} if kind == "finetune" else None
        spec = {"model": "tiny", "name": "a"} if kind == "finetune" else {"name": "tiny", "path": str(tmp_path)}
        client.submit(kind, spec, inputs)
        (task,) = worker.tasks(1)
        folder = pathlib.Path(task["workdir"]) / "made"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"base": base}))
        artifact = {"type": "adapter" if ":" in name else "model", "name": name, "path": str(folder)}
        artifact |= {"digest": digest_of(name + base), "bytes": 1, "meta": {"base": base}}
        worker.finish(task, {}, artifacts=[artifact])
        worker.acknowledged(task)

    for base in ("first", "second"):
        add("prepare", "tiny", base)
    add("finetune", "tiny:a", "first")
    _, read = export("tiny:a", str(tmp_path / "out"), "--gguf")
    assert read == ["tiny:a@1", "tiny@1"]
    # One whose base is gone says so.
    add("finetune", "tiny:a", "third")
    done, _ = export("tiny:a", str(tmp_path / "other"), "--gguf")
    assert done.returncode == 1
    assert "no version of tiny has the weights that tiny:a was made for" in done.stderr
