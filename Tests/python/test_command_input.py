"""What a person gives to `loraq`: numbers, pipes, standard input, Ctrl-C. Most of it needs no broker, since it is checked first."""

import array
import contextlib
import fcntl
import json
import os
import pty
import signal
import subprocess
import termios
import threading
from collections.abc import Iterator

import pytest
from harness import BIN, DEADLINE_S, until
from test_artifacts import add_model, engine  # noqa: F401 (a fixture)
from test_commands import loraq  # noqa: F401 (a fixture)

HUGE = "9223372036854775807"
LINES = '{"custom_id": "a", "text": "one two"}\n{"custom_id": "b", "text": "three"}\n'


def run(home, *words: str, code: int, **options) -> subprocess.CompletedProcess[str]:
    """Runs `loraq` where no broker runs."""
    command = [str(BIN / "loraq"), *words, "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False, **options)
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    return done


@contextlib.contextmanager
def on_terminal(*words: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`loraq` on a terminal of its own; the process, and the terminal's other side."""
    main, side = pty.openpty()
    environment = os.environ | {"TERM": "xterm"}
    with subprocess.Popen([str(BIN / "loraq"), *words], stdin=side, stdout=side, stderr=side, env=environment) as process:
        os.close(side)
        try:
            yield process, main
        finally:
            process.kill()
            os.close(main)


def test_an_interrupt_at_the_prompt_ends_the_chat(engine, tmp_path):  # noqa: F811
    broker, client, worker = engine
    add_model(client, worker, tmp_path)
    with on_terminal("chat", "tiny", "--home", str(broker.home)) as (chat, main):
        seen = b""
        while b"> " not in seen:
            seen += os.read(main, 65536)
        chat.send_signal(signal.SIGINT)
        assert chat.wait(DEADLINE_S) == 130


@pytest.mark.parametrize("words", ["batch -", "generate tiny -", "submit check -", "submit check - --array"])
def test_an_interrupt_while_standard_input_is_read(tmp_path, words):
    source, sink = os.pipe()
    command = [str(BIN / "loraq"), *words.split(), "--home", str(tmp_path)]
    with subprocess.Popen(command, stdin=source, stderr=subprocess.PIPE, text=True) as process:
        os.write(sink, b"{}\n")
        left = array.array("i", [1])
        until(lambda: fcntl.ioctl(source, termios.FIONREAD, left) == 0 and left[0] == 0, "the first line is taken")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 130
        assert process.stderr is not None
        assert process.stderr.read() == "interrupted\n"
    os.close(source)
    os.close(sink)


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["events", "--limit=-1"], "--limit"),
        (["events", "--limit", HUGE], "--limit"),
        (["models", "add", "m", ".", "--timeout", "inf"], "--timeout"),
        (["models", "add", "m", ".", "--timeout", "nan"], "--timeout"),
        (["models", "add", "m", ".", "--timeout=-5"], "--timeout"),
        (["adapters", "add", "a", ".", "--model", "m", "--timeout", "1e300"], "--timeout"),
        (["data", "check", "x", "--model", "m", "--timeout", "inf"], "--timeout"),
        (["data", "check", "x", "--model", "m", "--rows", "-1"], "--rows"),
        (["generate", "m", "x", "--timeout", "inf"], "--timeout"),
        (["plan", "finetune", "m", "x", "--timeout", "inf"], "--timeout"),
        (["evaluate", "m", "x", "--timeout", "nan"], "--timeout"),
        (["evaluate", "m", "x", "--max-tokens=-1"], "--max-tokens"),
        (["generate", "m", "x", "--temperature", "nan"], "--temperature"),
        (["generate", "m", "x", "--max-tokens", "-1"], "--max-tokens"),
        (["chat", "m", "--top-p", "1.5"], "--top-p"),
        (["wait", "--timeout", "1e10"], "--timeout"),
        (["up", "--timeout", "nan"], "--timeout"),
        (["down", "--timeout", "inf"], "--timeout"),
        (["top", "--interval", "1e300"], "--interval"),
        (["jobs", "--limit", "-1"], "--limit"),
        (["logs", "x", "--attempt", "-1"], "--attempt"),
        (["batch", "x", "--memory", "99999999999"], "--memory"),
        (["batch", "x", "--max-seconds", "99999999999999"], "--max-seconds"),
    ],
)
def test_a_number_out_of_range_is_refused_by_its_option(tmp_path, words, option):
    """Some of these ended in a trap, after the job was submitted; some were told as `Missing value`."""
    done = run(tmp_path, *words, code=2)
    first = done.stderr.splitlines()[0]
    assert option in first and "it must be a" in first, done.stderr


@pytest.mark.parametrize("words", [["--heartbeat-ms", HUGE], ["--lease-ms", HUGE], ["--memory", HUGE], ["--home", ""]])
def test_loraqd_refuses_numbers_that_it_cannot_compute_with(tmp_path, words):
    command = [str(BIN / "loraqd"), "--home", str(tmp_path), "--no-workers", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 64, done
    assert words[0] in done.stderr and "ready" not in done.stdout


@pytest.mark.parametrize(
    "words", ["measure . --rounds=-1", "measure . --rank=0", "verify . --steps=-1", f"verify . --threads={HUGE}"]
)
def test_lora_worker_refuses_numbers_that_it_cannot_compute_with(words):
    command = [str(BIN / "lora-worker"), *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 64, done
    assert words.split()[2].split("=")[0] in done.stderr


def test_results_and_errors_do_not_go_into_one_file(tmp_path):
    lines = tmp_path / "in.jsonl"
    lines.write_text(LINES)
    for first, second in [("out", "out"), ("out", "./out"), ("there", "there")]:
        (tmp_path / "there").write_text("old")
        words = ["batch", str(lines), "-o", str(tmp_path / first), "--error-output", f"{tmp_path}/{second}", "--force"]
        assert "name one file" in run(tmp_path, *words, code=2).stderr
    assert (tmp_path / "there").read_text() == "old"
    # Two files: the next thing that is missing is the broker.
    run(tmp_path, "batch", str(lines), "-o", str(tmp_path / "a"), "--error-output", str(tmp_path / "b"), code=3)


def test_an_array_may_have_carriage_returns_and_a_byte_order_mark(loraq, tmp_path):  # noqa: F811
    specs = tmp_path / "specs.jsonl"
    specs.write_bytes(b'\xef\xbb\xbf{"seconds": 0}\r\n\r\n{"seconds": 0}\r\n')
    assert len(loraq("submit", "countdown", str(specs), "--array").split()) == 2
    one = tmp_path / "one.json"
    one.write_bytes(b'\xef\xbb\xbf{"seconds": 0}\r\n')
    loraq("submit", "countdown", str(one))


def test_pipes_are_read_as_files_are(broker, client, tmp_path):
    shell = f"{BIN}/loraq --home {broker.home}"
    lines = tmp_path / "in.jsonl"
    lines.write_text(LINES)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_text(LINES))
    writer.start()
    copies = tmp_path / "copies"
    copies.mkdir()
    for command in [
        f"{shell} batch <(cat {lines}) --kind wordcount --wait -o -",
        f"{shell} batch {fifo} --kind wordcount --wait -o -",
        f"cat {lines} | {shell} batch /dev/stdin --kind wordcount --wait -o -",
        f"cat {lines} | {shell} batch - --kind wordcount --wait -o -",
        f"{shell} submit wordcount <(echo '{{}}') --input lines=<(cat {lines}) --wait >&2 && {shell} results",
    ]:
        environment = os.environ | {"TMPDIR": str(copies)}
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, env=environment, timeout=DEADLINE_S, check=False
        )
        assert done.returncode == 0, (command, done)
        assert {json.loads(line)["custom_id"] for line in done.stdout.splitlines()} == {"a", "b"}, done
    writer.join()
    assert not list(copies.iterdir()), "copies are gone with the process"


def test_a_pipe_with_nothing_in_it_is_called_as_the_person_called_it(tmp_path):
    done = run(tmp_path, "batch", "-", code=2, stdin=subprocess.DEVNULL)
    assert done.stderr == "error: batch file standard input is empty\n"
    command = f"{BIN}/loraq --home {tmp_path} batch <(true)"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: batch file /dev/fd/") and done.stderr.endswith(" is empty\n")
