"""A disk that is really full: a small tmpfs in a mount namespace of its own. Skipped, saying so, where none may be made."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess

import harness
import pytest
from harness import BIN, DEADLINE_S, until
from loraq import Client, LoraqError
from loraq.client import new_job_id

DISK_MIB = 24


@pytest.fixture
def small_disk(tmp_path):
    """A process that holds a namespace in which `/mnt` is a small disk; the words that run a command in there."""
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    script = f"mount -t tmpfs -o size={DISK_MIB}m,mode=700 tmpfs /mnt && echo ready && exec sleep infinity"
    if not shutil.which("unshare") or not shutil.which("nsenter"):
        pytest.skip("unshare and nsenter are not installed")
    holder = subprocess.Popen([*unshare, "sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stderr is not None
    if holder.stdout.readline() != "ready\n":
        holder.wait(DEADLINE_S)
        pytest.skip(f"no mount namespace may be made here: {holder.stderr.read().strip()}")
    enter = ["nsenter", "-t", str(holder.pid), "-m"] + ([] if os.geteuid() == 0 else ["-U", "--preserve-credentials"])
    yield pathlib.Path(f"/proc/{holder.pid}/root/mnt"), enter
    holder.kill()
    holder.wait(DEADLINE_S)


@contextlib.contextmanager
def broker_on(enter):
    command = [*enter, str(BIN / "loraqd"), "--home", "/mnt/home", "--workers", "/mnt/plugins"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(DEADLINE_S)


def submit_until_refused(client, accepted: list[str]) -> str:
    """The id that was refused, with the error that a full disk must give."""
    for _ in range(20_000):
        job = new_job_id()
        try:
            accepted.append(client.submit("echo", {"filler": "x" * 20_000}, id=job))
        except LoraqError as error:
            assert error.code == "STORE_UNAVAILABLE", error
            return job
    raise AssertionError("the disk did not fill")


def test_a_full_disk_refuses_loses_nothing_and_goes_on_when_there_is_room(small_disk):
    disk, enter = small_disk
    kinds = [{"name": "echo", "class": "slot"}]
    harness.plugin_folder(disk / "plugins", "fake", "#!/bin/sh\n", {"kinds": kinds, "instances": 0})
    accepted: list[str] = []
    with (disk / "ballast").open("wb") as ballast:
        ballast.write(b"\0" * (8 << 20))
    with broker_on(enter) as process, Client(disk / "home", timeout=DEADLINE_S) as client:
        refused = submit_until_refused(client, accepted)
        assert accepted
        # It lives, answers questions, and has everything that it acknowledged but not what it refused.
        assert until(lambda: answers(client), "the queue is read again") == len(accepted)
        assert process.poll() is None
        with pytest.raises(LoraqError) as unknown:
            client.job(refused)
        assert unknown.value.code == "UNKNOWN_JOB"
    # Killed while the disk is full; there is room again when the next one starts.
    (disk / "ballast").unlink()
    with broker_on(enter), Client(disk / "home", timeout=DEADLINE_S) as client:
        assert {job["job"] for job in client.jobs()} == set(accepted)
        assert client.submit("echo", {"n": 1}, id=refused) == refused


def test_a_broker_goes_on_by_itself_when_a_full_disk_has_room_again(small_disk):
    disk, enter = small_disk
    harness.plugin_folder(disk / "plugins", "fake", "#!/bin/sh\n", {"kinds": [{"name": "echo", "class": "slot"}], "instances": 0})
    accepted: list[str] = []
    (disk / "ballast").write_bytes(b"\0" * (8 << 20))
    with broker_on(enter), Client(disk / "home", timeout=DEADLINE_S) as client:
        refused = submit_until_refused(client, accepted)
        (disk / "ballast").unlink()

        def taken() -> str | None:
            try:
                return client.submit("echo", {"n": 1}, id=refused)
            except LoraqError as error:
                assert error.code == "STORE_UNAVAILABLE", error
                return None

        assert until(taken, "the broker takes jobs again") == refused
        assert {job["job"] for job in client.jobs()} == {*accepted, refused}


def answers(client) -> int | None:
    """How many jobs there are; nothing while the core is being made anew."""
    try:
        return sum(1 for _ in client.jobs())
    except LoraqError as error:
        assert error.code == "STORE_UNAVAILABLE", error
        return None
