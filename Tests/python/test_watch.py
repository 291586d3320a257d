"""`loraq watch`: a fine-tune's curve on a terminal, as lines and as JSON, over a broker's death, until the job ends."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios

import pytest
from harness import BIN, DEADLINE_S
from test_adapters import engine, loraq  # noqa: F401
from test_engine import LONG_S, RECIPE, SEEDLING

TRAIN = SEEDLING / "tasks" / "iso-date" / "train.jsonl"
#: Goes on until it is cancelled.
ENDLESS = RECIPE | {"max_steps": 1_000_000, "save_steps": 1_000_000, "lr_scheduler_type": "constant"}
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
BRAILLE = re.compile("[\u2801-\u28ff]")


class Screen:
    """`loraq watch` on a pseudo-terminal."""

    def __init__(self, broker, job: str, columns: int, rows: int, locale: str = "C.UTF-8") -> None:
        self.main, side = pty.openpty()
        self.resize(columns, rows)
        environment = os.environ | {"TERM": "xterm", "LC_ALL": locale}
        command = [str(BIN / "loraq"), "watch", job, "--home", str(broker.home)]
        self.process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, env=environment)
        os.close(side)
        self.seen = b""

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.main, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self) -> bool:
        try:
            piece = os.read(self.main, 65536)
        except OSError:  # the other side is closed
            return False
        self.seen += piece
        return bool(piece)

    def frame(self, wanted) -> list[str]:
        """The first whole frame that is as wanted, as lines without control codes. What came before it is forgotten."""
        while True:
            frames = self.seen.split(b"\x1b[H")
            for place, frame in enumerate(frames[1:-1] if not self.ended else frames[1:], 1):
                lines = ESCAPES.sub("", frame.decode()).replace("\r", "").rstrip("\n").split("\n")
                if wanted(lines):
                    self.seen = b"\x1b[H".join([b"", *frames[place + 1 :]])
                    return lines
            if self.ended:
                raise AssertionError(f"no such frame: {frames[-1].decode()}")
            self.ended = not self.read()

    ended = False

    def end(self) -> int:
        while self.read():
            pass
        self.ended = True
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.main)


@pytest.fixture
def screen():
    made = []

    def start(*words, **options) -> Screen:
        made.append(Screen(*words, **options))
        return made[-1]

    yield start
    for one in made:
        one.close()


def has_curve(lines: list[str]) -> bool:
    return any(BRAILLE.search(line.split("┤")[-1].split("│")[-1]) for line in lines[3:-1])


def step_of(text: str) -> int:
    found = re.search(r"step ([\d,]+)/", text)
    return int(found[1].replace(",", "")) if found else 0


def test_the_curve_is_live_fits_the_window_and_ctrl_c_leaves_the_job(engine, screen):  # noqa: F811
    broker, client = engine
    job = client.finetune("tiny", TRAIN, "endless", recipe=ENDLESS)
    watch = screen(broker, job, 80, 24)
    lines = watch.frame(has_curve)
    text = "\n".join(lines)
    assert "running" in text and "/1,000,000" in text and "loss " in text and "tokens/s" in text and "ETA" in text
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    step = step_of(text)
    watch.frame(lambda lines: has_curve(lines) and step_of(lines[0]) > step)
    watch.resize(44, 12)
    small = watch.frame(lambda lines: has_curve(lines) and max(map(len, lines)) <= 44)
    assert len(small) <= 12
    watch.process.send_signal(signal.SIGINT)
    assert watch.end() == 130
    assert "goes on" in ESCAPES.sub("", watch.seen.decode())
    assert client.job(job)["state"] == "running"
    client.cancel(job)
    assert client.wait(job, LONG_S)["state"] == "cancelled"


def test_it_ends_with_the_job_and_shows_evaluations(engine, screen, loraq):  # noqa: F811
    broker, client = engine
    recipe = RECIPE | {"val_set_size": 0.05, "eval_steps": 10, "max_steps": 30}
    job = client.finetune("tiny", TRAIN, "short", recipe=recipe)
    watch = screen(broker, job, 100, 30)
    lines = watch.frame(lambda lines: "succeeded" in lines[0])
    assert watch.end() == 0
    text = "\n".join(lines)
    assert "●" in text and "eval loss" in text and has_curve(lines) and "step 30/30 (100%)" in text
    # Without UTF-8 the same is drawn in ASCII.
    plain = screen(broker, job, 100, 30, locale="C")
    lines = plain.frame(lambda lines: "succeeded" in lines[0])
    assert "".join(lines).isascii() and any("o" in line.split("|")[-1] for line in lines)
    # Into a pipe: lines.
    done = loraq("watch", job)
    assert "\x1b" not in done.stdout
    evaluated = [line for line in done.stdout.splitlines() if line.startswith("step ") and "eval loss" in line]
    assert [line.split()[1] for line in evaluated] == ["0", "10", "20", "30"]
    assert done.stdout.splitlines()[-1].startswith("succeeded  step 30/30")


def test_no_step_is_missed_though_the_broker_is_killed(engine):  # noqa: F811
    """KINDS 24: what events did not tell is read from the broker."""
    broker, client = engine
    job = client.finetune("tiny", TRAIN, "watched", recipe=RECIPE | {"max_steps": 60, "eval_steps": 20, "val_set_size": 20})
    command = [str(BIN / "loraq"), "watch", job, "--json", "--interval", "0.05", "--home", str(broker.home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        lines = []
        for text in watch.stdout:
            lines.append(json.loads(text))
            if len(lines) == 5:
                broker.restart()
        assert watch.wait(LONG_S) == 0
    assert lines[-1]["job"] == job and lines[-1]["state"] == "succeeded"
    assert [line["step"] for line in lines[:-1] if "loss" in line] == list(range(1, 61))
    assert [line["step"] for line in lines[:-1] if "eval_loss" in line] == [0, 20, 40, 60]


def test_what_cannot_be_watched_is_refused(engine, loraq):  # noqa: F811
    _, client = engine
    assert "no job" in loraq("watch", "ffffffffffff", code=1).stderr
    other = client.submit("adapter", {"action": "merge", "name": "copy", "parts": [{"adapter": "tiny:iso-date"}]})
    client.wait(other, LONG_S)
    assert "no fine-tune" in loraq("watch", other, code=2).stderr
    assert "0.05" in loraq("watch", other, "--interval", "0", code=2).stderr
    failed = client.finetune("tiny", TRAIN, "refused", recipe=RECIPE | {"val_set_size": 100_000})
    assert client.wait(failed, LONG_S)["state"] == "failed"
    assert "INVALID_SPEC" in loraq("watch", failed, code=1).stdout
