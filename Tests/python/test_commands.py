"""Commands of `loraq` on jobs, run as a person runs them, against a real broker."""

import json
import os
import pty
import subprocess

import pytest
from harness import BIN, DEADLINE_S


@pytest.fixture
def loraq(broker):
    def run(*words: str, code: int = 0, stream: str = "stdout") -> str:
        command = [str(BIN / "loraq"), *words, "--home", str(broker.home)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=2 * DEADLINE_S, check=False)
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return getattr(done, stream)

    return run


def test_an_array_is_one_label_and_the_same_array_again_is_the_same_jobs(loraq, client, tmp_path):
    specs = tmp_path / "specs.jsonl"
    specs.write_text("\n".join(json.dumps({"seconds": 0.01 * n}) for n in range(7)) + "\n\n")
    first = "0193b5a0-0000-7000-8000-000000000001"
    ids = loraq("submit", "countdown", str(specs), "--array", "--label", "seven", "--id", first).split()
    assert len(set(ids)) == 7 and ids[0] == first
    assert loraq("submit", "countdown", str(specs), "--array", "--label", "seven", "--id", first).split() == ids
    after = loraq("submit", "countdown", '{"seconds": 0}', "--after", "seven").strip()
    assert {entry["job"] for entry in client.job(after)["after"]} == set(ids)
    loraq("wait", "seven")
    assert client.wait(after, DEADLINE_S)["state"] == "succeeded"
    assert len(client.status("seven")) == 7
    specs.write_text("{}\n[]\n")
    loraq("submit", "countdown", str(specs), "--array", code=2)


def test_verify_proves_and_says_so_by_its_exit_code(loraq, broker, client):
    job = client.batch([{"custom_id": f"c{n}", "text": "x"} for n in range(20)], kind="wordcount")
    client.wait(job, DEADLINE_S)
    assert "each answered exactly once" in loraq("verify", "last")
    assert json.loads(loraq("verify", job, "--json"))["verified"] is True
    segment = broker.home / "runs" / job / "results-000.jsonl"
    segment.write_bytes(segment.read_bytes().replace(b'"c3"', b'"c4"'))
    assert json.loads(loraq("verify", job, "--json", code=1))["problems"][0]["code"] == "WRONG_LINE"


def test_retry_failed_runs_the_cancelled_rest(loraq, client):
    job = client.submit("countdown", {"seconds": 600})
    loraq("cancel", job)
    assert "1 task again" in loraq("retry", job, "--failed")
    loraq("cancel", job)
    loraq("retry", job, "--failed", "--all", code=2)


def test_top_shows_what_runs_what_waits_and_why(loraq, client):
    running = client.submit("countdown", {"seconds": 600}, label="long-one")
    waiting = client.submit("countdown", {"seconds": 0}, after=[{"job": running, "on": "finish"}], label="late-one")
    text = loraq("top", "--once")
    assert "long-one" in text and "late-one" in text and running in text
    assert "\x1b" not in text, "no terminal, no control codes"
    view = json.loads(loraq("top", "--once", "--json"))
    assert {job["job"]: job["state"] for job in view["jobs"]}[waiting] == "waiting"
    assert view["workers"]


def test_top_follows_events_in_plain_lines(broker, client):
    command = [str(BIN / "loraq"), "top", "--interval", "0.1", "--json", "--home", str(broker.home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as top:
        assert top.stdout is not None
        assert json.loads(top.stdout.readline())["jobs"] == []
        job = client.submit("countdown", {"seconds": 0})
        for line in top.stdout:
            seen = [event for event in json.loads(line)["events"] if event.get("job") == job]
            if any(event["type"] == "job.succeeded" for event in seen):
                break
        top.terminate()
        assert top.wait(DEADLINE_S) == 130


def test_top_on_a_terminal_redraws_in_place(broker, client):
    client.submit("countdown", {"seconds": 600}, label="long-one")
    main, side = pty.openpty()
    command = [str(BIN / "loraq"), "top", "--home", str(broker.home)]
    with subprocess.Popen(command, stdin=side, stdout=side, stderr=side, env=os.environ | {"TERM": "xterm"}) as top:
        os.close(side)
        seen = b""
        while seen.count(b"\x1b[H") < 2:
            seen += os.read(main, 65536)
        top.terminate()
        assert top.wait(DEADLINE_S) == 130
    os.close(main)
    assert b"long-one" in seen
    assert b"wordcount-1" in seen


def test_logs_follow_a_job_to_its_end(loraq, client):
    job = client.submit("countdown", {"seconds": 0.5})
    loraq("logs", job, "-f")
    assert client.job(job)["state"] == "succeeded", "it ended with the job"


def test_events_follow_without_a_gap_though_the_broker_is_killed(broker, client):
    """KINDS 24: what a subscriber did not hear is read from the broker."""
    job = client.submit("countdown", {"seconds": 0}, after=[{"job": client.submit("countdown", {"seconds": 1.5}), "on": "finish"}])
    command = [str(BIN / "loraq"), "events", "-f", "--json", "--job", job, "--home", str(broker.home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as events:
        assert events.stdout is not None
        types = []
        for line in events.stdout:
            event = json.loads(line)
            if event["type"] == "job.waiting":
                broker.restart()
            if event["type"].startswith("job."):
                types.append(event["type"])
            if event["type"] == "job.succeeded":
                break
        events.terminate()
        events.wait(DEADLINE_S)
    assert types == ["job.waiting", "job.queued", "job.running", "job.succeeded"]


def test_a_batch_of_which_nothing_was_answered_leaves_its_output_name_free(loraq, tmp_path):
    lines, out, errors = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "errors.jsonl"))
    lines.write_text("bad\nbad\n")
    words = ("batch", str(lines), "--kind", "wordcount", "-o", str(out), "--error-output", str(errors))
    loraq(*words, code=1)
    assert not out.exists()
    assert errors.read_text().count("BAD_LINE") == 2
    errors.unlink()
    lines.write_text('{"custom_id": "a", "text": "x"}\n')
    loraq(*words)
    assert out.read_text().count("\n") == 1
    assert errors.read_text() == "", "that there were no errors is said by an empty file"


def test_a_refused_strict_batch_leaves_its_output_name_free(loraq, client, tmp_path):
    """KINDS 15: whatever the kind, one bad line is enough, and none runs."""
    lines, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines.write_text('{"custom_id": "a", "text": "x"}\nbad\n')
    told = loraq("batch", str(lines), "--kind", "wordcount", "--strict", "-o", str(out), code=1, stream="stderr")
    assert "strict: 1 of 2 lines" in told and "out.jsonl was not written" in told, told
    assert client.job("last")["state"] == "failed" and client.job("last")["counts"]["done"] == 0
    assert not out.exists()
