"""What docs/security.md states of a broker on one machine: who may connect, what a plugin is told, that names are not paths."""

import os
import pathlib
import stat
import sys

import harness
import pytest
from harness import DEADLINE_S
from loraq import Client, LoraqError
from loraq.client import new_job_id

PLUGIN = f"""#!{sys.executable}
import os, sys
sys.path.insert(0, {str(harness.ROOT / "clients/python/src")!r})
from loraq.worker import Worker
worker = Worker(version="1")

@worker.kind("environment")
def environment(task):
    return dict(os.environ)

worker.run()
"""

#: All that a worker may find in its environment; the interpreter itself adds LC_CTYPE.
PASSED_ON = {
    *("HOME", "LANG", "LC_ALL", "LC_CTYPE", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PATH", "TMPDIR", "TZ", "FROM_MANIFEST"),
    *("LORAQ_HOME", "LORAQ_DISPATCH", "LORAQ_RESULTS", "LORAQ_INSTANCE", "LORAQ_PLUGIN", "LORAQ_THREADS", "LORAQ_CPUS"),
    *("LORAQ_MEMORY_BYTES", "LORAQ_BROKER_GRACE_MS", "LORAQ_ISA"),
}


def mode(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_sockets_and_store_belong_to_the_owner_alone(bare_broker):
    home = bare_broker.home
    for folder in ("run", "blobs", "runs", "logs", "models", "adapters"):
        assert mode(home / folder) == 0o700, folder
    for socket in ("control", "dispatch", "results", "events"):
        assert mode(home / "run" / socket) & 0o077 == 0, socket
    assert mode(home / "jobs.sqlite") & 0o077 == 0


def test_a_run_folder_that_was_open_is_closed_at_the_start(bare_broker):
    bare_broker.kill()
    (bare_broker.home / "run").chmod(0o777)
    bare_broker.start()
    assert mode(bare_broker.home / "run") == 0o700


def test_a_worker_is_told_no_more_of_the_environment_than_it_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for plugins")
    monkeypatch.setenv("LORAQ_TOKEN_OF_A_TEST", "not for plugins either")
    manifest = {"kinds": [{"name": "environment", "class": "slot"}], "instances": 1, "env": {"FROM_MANIFEST": "1"}}
    with harness.running(harness.plugin_folder(tmp_path, "environment", PLUGIN, manifest)) as broker:
        client = broker.client()
        seen = client.wait(client.submit("environment", {}), DEADLINE_S)["result"]
    assert seen["FROM_MANIFEST"] == "1"
    assert set(seen) <= PASSED_ON, set(seen) - PASSED_ON


OUTSIDE = ["../secret", "..", "/etc/passwd", "a/../../secret", "a/b", "a\x00b", ".hidden"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_on_the_wire_are_not_paths(bare_broker, name):
    """KINDS 14: each way in refuses a name that could leave the home folder, and the broker goes on."""
    # What a broker that joined names to paths would find at `logs/../secret.log`.
    (bare_broker.home / "secret.log").write_text("found")
    with Client(bare_broker.home, timeout=30) as client:
        requests = [
            ("LOGS", {"worker": name}),
            ("LOGS", {"job": name}),
            ("GET", {"artifact": name, "file": name}),
            ("TAG", {"artifact": name, "tag": name}),
            ("REMOVE", {"artifact": name}),
            ("SCALE", {"plugin": name, "instances": 1}),
            ("SUBMIT", {"job": {"id": name, "kind": "echo", "spec": {}}}),
            ("SUBMIT", {"job": {"id": new_job_id(), "kind": name, "spec": {}}}),
            ("SUBMIT", {"job": {"id": new_job_id(), "kind": "finetune", "spec": {"model": "m", "name": name, "recipe": {}}}}),
            ("PUT", {"digest": f"sha256:{name}", "bytes_total": 1, "offset": 0}),
        ]
        for verb, header in requests:
            with pytest.raises(LoraqError):
                client.request(verb, header)
        assert client.ping()["epoch"] >= 1
    assert (bare_broker.home / "secret.log").read_text() == "found"
    assert not (bare_broker.home.parent / "secret").exists()


@pytest.mark.parametrize(
    "endpoint", ["tcp://0.0.0.0:5555", "tcp://192.0.2.1:5555", "tcp://*:5555", "pgm://eth0;239.0.0.1:1", "inproc://x"]
)
def test_results_are_pushed_to_this_machine_only(bare_broker, endpoint):
    with Client(bare_broker.home, timeout=30) as client, pytest.raises(LoraqError):
        client.request("ATTACH", {"endpoint": endpoint, "selector": "all"})


def test_the_broker_opens_no_port(bare_broker):
    """All its listening sockets are ipc."""
    assert bare_broker.process is not None
    own = set()
    for entry in pathlib.Path(f"/proc/{bare_broker.process.pid}/fd").iterdir():
        target = os.readlink(entry)
        if target.startswith("socket:["):
            own.add(target[8:-1])
    listening = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        path = pathlib.Path(f"/proc/{bare_broker.process.pid}/net/{table}")
        if path.exists():
            listening |= {line.split()[9] for line in path.read_text().splitlines()[1:]}
    assert own and not own & listening
