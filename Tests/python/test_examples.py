"""The examples, started as a reader of the documentation would start them."""

import os
import shutil
import subprocess
import sys

import harness
import pytest
from harness import DEADLINE_S, EXAMPLES
from test_conformance import conformance, passes


def test_the_example_client_and_worker(broker):
    command = [sys.executable, str(EXAMPLES / "client.py"), "--home", str(broker.home), "--lines", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * DEADLINE_S)
    assert done.returncode == 0, done.stderr
    assert "line-4: 5 words" in done.stdout
    assert "succeeded: 5 of 5 lines" in done.stdout


@pytest.fixture(scope="module")
def c_client(tmp_path_factory):
    """examples/c/client.c, compiled without a warning."""
    compiler = shutil.which("cc") or shutil.which("clang")
    if compiler is None:
        pytest.fail("there is no C compiler: swift.org's toolchain brings clang")
    program = tmp_path_factory.mktemp("c") / "client"
    source = harness.ROOT / "examples" / "c" / "client.c"
    subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", "-O1", "-o", str(program), str(source), "-lzmq"], check=True)
    return program


def test_the_client_in_c_and_the_worker_in_perl(c_client):
    with harness.running(harness.ROOT / "examples" / "perl") as broker:
        command = [str(c_client), "shout", "one two", "Three"]
        done = subprocess.run(
            command, env=os.environ | {"LORAQ_HOME": str(broker.home)}, capture_output=True, text=True, timeout=DEADLINE_S
        )
        assert done.returncode == 0, done.stderr
        job = done.stdout.split()[1]
        answers = {line["custom_id"]: line["text"] for line in broker.client().results(job)}
        assert answers == {"line-1": "ONE TWO", "line-2": "THREE"}
        assert '"text":"ONE TWO"' in done.stdout and '"text":"THREE"' in done.stdout


def test_the_worker_in_perl_survives_a_killed_broker():
    with harness.running(harness.ROOT / "examples" / "perl") as broker:
        client = broker.client()
        lines = [{"custom_id": f"c{number}", "text": f"text {number}"} for number in range(2000)]
        job = client.batch(lines, kind="shout")
        harness.until(lambda: client.job(job)["counts"]["done"] > 0, "a line was answered")
        broker.restart()
        assert client.wait(job)["counts"]["done"] == 2000
        assert {line["text"] for line in client.results(job)} == {f"TEXT {number}" for number in range(2000)}


def test_the_client_in_c_keeps_the_protocol(c_client):
    rules, status = conformance("client", ["--answer", '{"text": "X"}'], [c_client, "shout", "a", "b", "c"])
    passes(rules, status, not_tried=("upload",))


def test_the_worker_in_perl_keeps_the_protocol():
    rules, status = conformance("worker", [], [harness.ROOT / "examples" / "perl" / "shout" / "worker.pl"])
    passes(rules, status, not_tried=("cancel", "preempt"))
