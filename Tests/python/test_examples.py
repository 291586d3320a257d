"""The examples, started as a reader of the documentation would start them."""

import subprocess
import sys

from harness import DEADLINE_S, EXAMPLES


def test_the_example_client_and_worker(broker):
    command = [sys.executable, str(EXAMPLES / "client.py"), "--home", str(broker.home), "--lines", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * DEADLINE_S)
    assert done.returncode == 0, done.stderr
    assert "line-4: 5 words" in done.stdout
    assert "succeeded: 5 of 5 lines" in done.stdout
