"""Tests of the PEFT worker, end to end: a real broker, the native worker beside it, and this plugin as `install.py` installs it.

Need a Python with torch, transformers and peft, named by LORAQ_PEFT_PYTHON; `make test-peft` sets it.
"""

import os
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "Tests" / "python"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "clients" / "python" / "src"))

import harness

ROOT = harness.ROOT
PYTHON = os.environ.get("LORAQ_PEFT_PYTHON") or sys.executable


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    """A broker with the native worker and the PEFT worker, and the embedded model, in float32, under the name `tiny`."""
    home = tmp_path_factory.mktemp("peft")
    command = [sys.executable, str(ROOT / "workers/peft/install.py"), "--python", PYTHON, "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "installed" in done.stdout
    with harness.running(home / "workers", ROOT / "workers") as broker:
        client = broker.client(timeout=120)
        job = client.submit("prepare", {"name": "tiny", "path": str(ROOT / "examples/seedling/model"), "dtype": "float32"})
        assert client.wait(job)["state"] == "succeeded"
        yield broker


@pytest.fixture
def client(broker):
    return broker.client(timeout=120)


@pytest.fixture(scope="session")
def in_torch():
    """Runs a program in the Python that has torch; gives what it prints."""

    def run(program: str, *arguments: str) -> str:
        done = subprocess.run([PYTHON, "-c", program, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run
