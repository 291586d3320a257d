"""What `loraq` answers with: documents and errors for machines, advice and corrections for persons."""

import fcntl
import json
import os
import signal
import subprocess

import pytest
from harness import BIN, DEADLINE_S, until
from test_artifacts import add_model, engine, produce  # noqa: F401 (a fixture)
from test_command_input import LINES, run

F_SETPIPE_SZ = 1031  # of <fcntl.h>; the module has it from 3.10 on, but not everywhere


def at(broker, *words: str, code: int = 0, **options) -> subprocess.CompletedProcess[str]:
    return run(broker.home, *words, code=code, **options)


def error_of(done: subprocess.CompletedProcess[str]) -> dict:
    """The error for machines, which is all that standard error holds."""
    assert done.stdout == ""
    return json.loads(done.stderr)["error"]


@pytest.mark.parametrize("words", ["finetune", "jobs --limit 0", "batch x --label last", "statsu", "models ad"])
def test_wrong_arguments_are_json_too(tmp_path, words):
    error = error_of(run(tmp_path, *words.split(), "--json", code=2))
    assert error["code"] == "USAGE" and error["message"] and "loraq" in error["hint"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["statsu"], "there is no command `loraq statsu`; did you mean `status`?"),
        (["models", "lst"], "there is no command `loraq models lst`; did you mean `list`?"),
        (["help", "nosuch"], "there is no command `loraq nosuch`"),
        (["help", "models", "shwo"], "there is no command `loraq models shwo`; did you mean `show`?"),
        (["workers", "scale", "lora", "-1"], "`-1` is below 0: no number here can be"),
        (["ping", "--home", ""], "--home must name a folder"),
    ],
)
def test_slips_are_told_as_such(tmp_path, words, message):
    command = [str(BIN / "loraq"), *words]
    environment = os.environ | {"LORAQ_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=DEADLINE_S, check=False)
    assert done.returncode == 2, done
    assert message in done.stderr


def test_help_says_a_default_once(tmp_path):
    for command in ["results", "errors", "status", "wait", "explain"]:
        done = subprocess.run([str(BIN / "loraq"), "help", command], capture_output=True, text=True, timeout=DEADLINE_S, check=True)
        assert done.stdout.count("default: last") == 1, done.stdout


def test_the_code_of_an_unknown_artifact_reaches_machines(engine):  # noqa: F811
    broker, _, _ = engine
    for words in [
        ["models", "show", "nope"],
        ["models", "remove", "nope"],
        ["adapters", "show", "nope"],
        ["adapters", "show", "nope:a"],
        ["generate", "nope", "hi"],
        ["chat", "nope"],
    ]:
        assert error_of(at(broker, *words, "--json", code=1))["code"] == "UNKNOWN_ARTIFACT", words
    # Before a word of greeting, and with the code for a person too.
    assert at(broker, "chat", "nope", code=1).stderr.splitlines()[0] == "error: there is no model `nope` (UNKNOWN_ARTIFACT)"


def test_chat_for_machines_is_an_output_line_an_answer(engine, tmp_path):  # noqa: F811
    broker, client, worker = engine
    add_model(client, worker, tmp_path)
    worker.credit(10, "sequence")
    command = [str(BIN / "loraq"), "chat", "tiny", "--json", "--home", str(broker.home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as chat:
        assert chat.stdin is not None and chat.stdout is not None
        chat.stdin.write("Hello\n")
        chat.stdin.flush()
        (task,) = worker.tasks(1)
        body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}
        response = {"status_code": 200, "request_id": "r", "body": body}
        worker.finish(task, {"id": task["task"], "custom_id": task["custom_id"], "response": response, "error": None})
        worker.acknowledged(task)
        answer = json.loads(chat.stdout.readline())
        assert answer["response"]["body"]["choices"][0]["message"]["content"] == "Hi"
        chat.stdin.close()
        assert chat.wait(DEADLINE_S) == 0


def test_log_lines_are_objects_for_machines_and_have_a_clock_for_persons(bare_broker, worker):
    worker.hello()
    worker.credit(1)
    job = bare_broker.client().submit("echo", {})
    (task,) = worker.tasks(1)
    worker.sequence += 1
    header = {
        "session": worker.session,
        "seq": worker.sequence,
        "task": task["task"],
        "level": "info",
        "message": "reading  the data",
    }
    worker.send("LOG", header, socket=worker.results)
    until(lambda: at(bare_broker, "logs", job).stdout, "the line is on disk")
    line = json.loads(at(bare_broker, "logs", job, "--json").stdout)
    assert line["message"] == "reading  the data" and line["worker"] == worker.instance and line["level"] == "info"
    assert line["at_ms"] > 1_600_000_000_000
    clock, level, *_ = at(bare_broker, "logs", job).stdout.split()
    assert len(clock) == 8 and clock.count(":") == 2 and level == "info"
    worker.finish(task, {})
    worker.acknowledged(task)


def test_a_named_job_that_has_ended_is_not_left_out_silently(broker, client):
    ended = client.submit("countdown", {"seconds": 0}, label="both")
    client.wait(ended, DEADLINE_S)
    running = client.submit("countdown", {"seconds": 600}, label="both")
    done = at(broker, "hold", ended, running, code=1)
    assert done.stderr == f"{ended} has ended (succeeded): there is nothing to hold\n"
    assert done.stdout == f"{running}  held\n"
    document = json.loads(at(broker, "release", ended, running, "--json", code=1).stdout)
    assert document["unchanged"] == [{"job": ended, "state": "succeeded"}]
    # A label stands for those that can be changed.
    at(broker, "hold", "both")
    client.cancel(running)


def test_lines_that_cannot_be_written_stay_with_the_broker(broker, tmp_path):
    lines = tmp_path / "in.jsonl"
    lines.write_text(LINES)
    done = at(broker, "batch", str(lines), "--kind", "wordcount", "-q", "-o", "/dev/full", code=1)
    job = done.stdout.strip()
    assert "No space left" in done.stderr
    assert f"loraq results {job} -o FILE" in done.stderr and "run the command again" not in done.stderr
    written = json.loads(at(broker, "results", job, "-o", str(tmp_path / "out"), "--json").stdout)
    assert written == {"job": job, "output": str(tmp_path / "out"), "lines": 2}


def test_a_failed_job_whose_output_is_taken_is_an_error_for_machines(engine, tmp_path):  # noqa: F811
    broker, _, _ = engine
    lines = tmp_path / "in.jsonl"
    lines.write_text("no JSON\n")
    done = at(broker, "batch", str(lines), "--strict", "-q", "-o", "-", "--json", code=1)
    assert error_of(done)["code"] == "INVALID_SPEC"


def test_tags_are_set_moved_and_taken_off(engine, tmp_path):  # noqa: F811
    broker, client, worker = engine
    for text in ("one", "two"):
        add_model(client, worker, tmp_path, text=text)
    assert at(broker, "models", "tag", "tiny@1", "stable").stdout == "tiny@1  tags: stable\n"
    assert json.loads(at(broker, "models", "show", "tiny#stable", "--json").stdout)["version"] == 1
    at(broker, "models", "tag", "tiny@2", "stable")
    assert json.loads(at(broker, "models", "show", "tiny#stable", "--json").stdout)["version"] == 2
    assert at(broker, "models", "tag", "tiny", "stable", "--remove").stdout == "tiny@2  no tags\n"
    client.submit("finetune", {"model": "tiny", "name": "a"}, {"train": b"{}\n"})
    produce(worker, "finetune", "tiny:a", "adapter")
    assert at(broker, "adapters", "tag", "a", "best").stdout == "tiny:a@1  tags: best\n"


def test_doctor_examines_a_home_that_no_socket_fits(tmp_path):
    home = tmp_path / ("x" * 120)
    done = run(home, "doctor", "--json", code=1)
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["socket paths"]["status"] == "fail"
    assert checks["broker"]["status"] == "fail" and "--home" in checks["broker"]["hint"]
    assert checks["programs"]["status"] == "ok"


def test_the_worker_says_its_version():
    done = subprocess.run([str(BIN / "lora-worker"), "--version"], capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert done.stdout.count(".") == 2


def test_an_interrupt_while_nobody_reads_the_output(broker, client, tmp_path):
    """A full pipe: the write is broken off, and the command ends as interrupted."""
    lines = [{"custom_id": f"line {n}", "text": "x"} for n in range(60)]
    client.wait(client.batch(lines, kind="wordcount"), DEADLINE_S)
    source, sink = os.pipe()
    fcntl.fcntl(sink, F_SETPIPE_SZ, 4096)
    command = [str(BIN / "loraq"), "results", "--home", str(broker.home)]
    with subprocess.Popen(command, stdout=sink, stderr=subprocess.PIPE, text=True) as results:
        os.close(sink)
        stack = f"/proc/{results.pid}/wchan"
        until(lambda: "pipe" in open(stack).read(), "it waits for a reader")  # noqa: SIM115
        results.send_signal(signal.SIGINT)
        assert results.wait(DEADLINE_S) == 130
        assert results.stderr is not None and "Error Domain" not in results.stderr.read()
    os.close(source)
