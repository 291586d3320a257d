"""Clients on other machines: TCP with CURVE, keys made by `loraq keys`, and nobody else."""

import contextlib
import json
import pathlib
import socket
import stat
import subprocess
import threading

import harness
import pytest
import zmq
from harness import BIN, DEADLINE_S
from loraq import BrokerUnavailable, Client
from test_queue import words


def free_port() -> int:
    """A port that is free, with the one after it."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port


def loraq(home, *words: str, code: int = 0) -> str:
    command = [str(BIN / "loraq"), *words, "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return done.stdout + done.stderr


class Remote:
    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.broker = harness.Broker([harness.EXAMPLES], arguments=["--listen", f"127.0.0.1:{self.port}"])

    def let_in(self, name: str, port: int | None = None) -> pathlib.Path:
        """The home of a client that is let in."""
        home = self.folder / name
        home.mkdir()
        address = f"127.0.0.1:{port or self.port}"
        loraq(self.broker.home, "keys", "add", name, "--address", address, "-o", str(home / "broker.json"))
        return home


@pytest.fixture
def remote(tmp_path):
    remote = Remote(tmp_path)
    yield remote
    remote.broker.close()


def is_refused(home: pathlib.Path) -> bool:
    """Whether no answer comes, while one comes at once to those who are let in."""
    with Client(home, timeout=1.5) as client:
        try:
            client.ping()
        except BrokerUnavailable:
            return True
        return False


def test_a_client_that_is_let_in_does_everything_from_afar(remote, tmp_path):
    home = remote.let_in("laptop")
    remote.broker.start()
    lines = tmp_path / "lines.jsonl"
    lines.write_text("".join(json.dumps(line) + "\n" for line in words(30)))
    output = tmp_path / "out.jsonl"
    loraq(home, "batch", str(lines), "--kind", "wordcount", "--wait", "-o", str(output))
    assert len(output.read_text().splitlines()) == 30
    with Client(home, timeout=DEADLINE_S) as client:
        job = client.submit("countdown", {"seconds": 0.3})
        # By events too, which come on the other port.
        assert client.wait(job, DEADLINE_S)["state"] == "succeeded"
        # Through a restart of the broker.
        remote.broker.restart()
        assert client.job(job)["state"] == "succeeded"
    assert "speaks to the broker at tcp://" in loraq(home, "up", code=2)
    assert loraq(remote.broker.home, "keys").split() == ["laptop"]


def test_keys_are_for_their_owner_alone(remote):
    home = remote.let_in("laptop")
    assert stat.S_IMODE((home / "broker.json").stat().st_mode) == 0o600
    keys = remote.broker.home / "keys"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert stat.S_IMODE((keys / "server.secret").stat().st_mode) == 0o600
    secret = json.loads((home / "broker.json").read_text())["secret_key"]
    assert secret not in "".join(path.read_text() for path in keys.rglob("*") if path.is_file())
    assert "already" in loraq(remote.broker.home, "keys", "add", "laptop", "--address", "h:1", "-o", str(home / "x"), code=1)
    for wrong in ("../laptop", "a/b", ""):
        loraq(remote.broker.home, "keys", "add", wrong, "--address", "h:1", "-o", str(home / "x"), code=2)


def test_nobody_else_gets_in(remote, tmp_path):
    """No keys, keys that nobody made, keys for another broker, and keys that were taken back."""
    home = remote.let_in("laptop")
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    fields = json.loads((home / "broker.json").read_text())
    public, secret = (key.decode() for key in zmq.curve_keypair())
    (stranger / "broker.json").write_text(json.dumps(fields | {"public_key": public, "secret_key": secret}))
    misled = tmp_path / "misled"
    misled.mkdir()
    (misled / "broker.json").write_text(json.dumps(fields | {"server_key": public}))
    remote.broker.start()
    assert not is_refused(home)
    assert is_refused(stranger)
    assert is_refused(misled)
    with Client(control=fields["control"], events=fields["events"], timeout=1.5) as plain, pytest.raises(BrokerUnavailable):
        plain.ping()
    loraq(remote.broker.home, "keys", "remove", "laptop")
    assert is_refused(home), "a key that was taken back opens no new connection, without a restart"
    assert not is_refused(remote.broker.home)
    assert "unknown key was refused" in remote.broker.log()


def test_a_broker_without_keys_does_not_listen(remote):
    with pytest.raises(harness.NotReady, match="loraq keys add"):
        remote.broker.start()
    remote.broker.options = ["--listen", "0.0.0.0"]
    with pytest.raises(harness.NotReady, match="ADDRESS:PORT"):
        remote.broker.start()


class Tap(threading.Thread):
    """Passes the bytes of one connection on, and keeps them."""

    def __init__(self, to: int) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.to = to
        self.seen = b""

    def run(self) -> None:
        with contextlib.suppress(OSError):
            near, _ = self.listener.accept()
            far = socket.create_connection(("127.0.0.1", self.to))
            ways = [threading.Thread(target=self._pass, args=ends, daemon=True) for ends in ((near, far), (far, near))]
            for way in ways:
                way.start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                self.seen += chunk
                target.sendall(chunk)


def test_what_goes_over_the_wire_cannot_be_read(remote):
    tap = Tap(remote.port)
    home = remote.let_in("laptop", tap.port)
    tap.start()
    remote.broker.start()
    with Client(home, timeout=DEADLINE_S) as client:
        job = client.submit("countdown", {"seconds": 0}, label="a-secret-label")
        assert client.job(job)["label"] == "a-secret-label"
    assert len(tap.seen) > 500
    for word in (b"a-secret-label", b"LQP/1", b"countdown", job.encode()):
        assert word not in tap.seen
    tap.listener.close()
