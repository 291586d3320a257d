"""`loraq compare` of the native engine with PEFT, as a person would type it."""

import json
import subprocess

import harness
from test_infer import LINES


def test_compare_finds_no_difference_in_float32(broker, client):
    job = client.batch(LINES, model="tiny")
    client.wait(job)
    command = [str(harness.BIN / "loraq"), "--home", str(broker.home), "compare", "last", "--worker", "peft", "--json"]
    done = subprocess.run([*command, "--tolerance", "0.001"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["agrees"] and report["lines"] == len(LINES) == report["verdicts"]["equal"]
    assert report["tokens"] > 40 and 0 < report["max_logprob_difference"] < 1e-3
