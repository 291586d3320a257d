"""A disk that becomes read-only under the running broker: an ext4 in a file, which its kernel driver gives up after an error."""

import os
import pathlib
import shutil
import subprocess

import harness
import pytest
from harness import BIN, DEADLINE_S, until
from loraq import Client, LoraqError
from loraq.client import new_job_id

SCRIPT = """
mount -o loop,errors=remount-ro "$0" /mnt && mkdir -p -m 700 /mnt/home
echo /sys/fs/ext4/$(basename "$(findmnt -n -o SOURCE /mnt)")
exec sleep infinity
"""


class Disk:
    """A disk image, mounted at `/mnt` in a mount namespace that a process holds."""

    def __init__(self, image: pathlib.Path) -> None:
        self.image = image
        command = ["unshare", "-m", "sh", "-c", SCRIPT, str(image)]
        self.holder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.holder.stdout is not None
        self.control = pathlib.Path(self.holder.stdout.readline().strip() or "/nowhere")
        self.root = pathlib.Path(f"/proc/{self.holder.pid}/root/mnt")
        self.enter = ["nsenter", "-t", str(self.holder.pid), "-m"]

    def fail(self) -> None:
        (self.control / "trigger_fs_error").write_text("1")

    def close(self) -> None:
        self.holder.kill()
        self.holder.wait(DEADLINE_S)


@pytest.fixture
def image(tmp_path):
    tools = ("unshare", "nsenter", "mkfs.ext4", "e2fsck", "findmnt")
    if os.geteuid() != 0 or not all(map(shutil.which, tools)) or not pathlib.Path("/dev/loop-control").exists():
        pytest.skip(f"needs root, a loop device and {', '.join(tools)}")
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(path)], check=True)
    return path


def broker_on(disk: Disk) -> subprocess.Popen[str]:
    command = [*disk.enter, str(BIN / "loraqd"), "--home", "/mnt/home", "--workers", "/mnt/plugins"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> str:
    process.kill()
    _, log = process.communicate(timeout=DEADLINE_S)
    return log


def test_a_disk_that_becomes_read_only_refuses_loses_nothing_and_is_told_at_the_start(image):
    """KINDS 25: what was acknowledged before is there after the repair; nothing is acknowledged that is not on the disk."""
    disk = Disk(image)
    try:
        if not (disk.control / "trigger_fs_error").exists():
            pytest.skip("this kernel cannot be told to fail a disk")
        kinds = [{"name": "echo", "class": "slot"}]
        harness.plugin_folder(disk.root / "plugins", "fake", "#!/bin/sh\n", {"kinds": kinds, "instances": 0})
        subprocess.run(["sync", "-f", str(disk.root)], check=True)
        process = broker_on(disk)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with Client(disk.root / "home", timeout=DEADLINE_S) as client:
            accepted = {client.submit("echo", {"n": number}) for number in range(20)}
            disk.fail()
            refused = new_job_id()
            with pytest.raises(LoraqError) as error:
                client.submit("echo", {"n": 0}, id=refused)
            assert error.value.code == "STORE_UNAVAILABLE"
            # It stays, and says what is wrong to everybody who asks for a change.
            with pytest.raises(LoraqError) as error:
                client.submit("echo", {"n": 0}, id=refused)
            assert error.value.code == "STORE_UNAVAILABLE"
            until(client.ping, "it answers")
            assert process.poll() is None
        assert "a commit failed" in end(process)
        # Another one cannot start, and says why in one line.
        second = broker_on(disk)
        _, log = second.communicate(timeout=DEADLINE_S)
        assert second.returncode == 1
        assert "Read-only file system" in log or "readonly" in log, log
    finally:
        disk.close()
    assert subprocess.run(["e2fsck", "-p", "-f", str(image)], capture_output=True, check=False).returncode in (0, 1)
    repaired = Disk(image)
    try:
        process = broker_on(repaired)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with Client(repaired.root / "home", timeout=DEADLINE_S) as client:
            assert {job["job"] for job in client.jobs()} == accepted
            assert client.submit("echo", {"n": 0}, id=refused) == refused
        end(process)
    finally:
        repaired.close()
