import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
# The client of this checkout, whatever is installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "clients" / "python" / "src"))

import harness


def _is_built() -> bool:
    return (harness.BIN / "loraqd").exists()


@pytest.fixture
def broker():
    """A broker with the example plugin, `wordcount` and `countdown`."""
    if not _is_built():
        pytest.fail(f"{harness.BIN}/loraqd is not there: build it, or set LORAQ_BIN")
    with harness.running(harness.EXAMPLES) as broker:
        yield broker


@pytest.fixture
def client(broker):
    return broker.client()


@pytest.fixture
def bare_broker(tmp_path):
    """A broker that knows a plugin `fake` with the kinds `echo` and `long` and starts nothing: the test is the worker."""
    kinds = [{"name": name, "class": "slot"} for name in ("echo", "long")]
    folder = harness.plugin_folder(tmp_path, "fake", "#!/bin/sh\n", {"kinds": kinds, "instances": 0})
    with harness.running(folder) as broker:
        yield broker


@pytest.fixture
def worker(bare_broker):
    worker = harness.FakeWorker(bare_broker)
    yield worker
    worker.close()
