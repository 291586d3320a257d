"""Clients that vanish in the middle of an upload, and uploads that go on."""

import hashlib
import os
import signal
import subprocess
import sys

import pytest
from harness import DEADLINE_S
from loraq import LoraqError

#: Sends the first piece of an upload, says so, and would send the second.
HALF = """
import sys, time
from loraq import Client
content = open(sys.argv[2], "rb").read()
client = Client(sys.argv[1])
header = {"digest": sys.argv[3], "bytes_total": len(content)}
reply = client.request("PUT", header | {"offset": 0}, [("piece", content[: 4 << 20])])
print(reply.header["received"], flush=True)
time.sleep(600)
"""


def test_a_client_that_vanishes_in_the_middle_of_an_upload_leaves_a_beginning_that_is_used(broker, tmp_path):
    """KINDS 24: what came before its death need not come again; nobody else notices."""
    content = os.urandom(64) * ((9 << 20) // 64)
    file = tmp_path / "content"
    file.write_bytes(content)
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    command = [sys.executable, "-c", HALF, str(broker.home), str(file), digest]
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == f"{4 << 20}\n"
    process.send_signal(signal.SIGKILL)
    process.wait(DEADLINE_S)
    client = broker.client()
    # It is not there before it is whole.
    job = {"kind": "wordcount", "spec": {}, "inputs": {"lines": digest}}
    with pytest.raises(LoraqError) as error:
        client.submit(job["kind"], job["spec"], job["inputs"])
    assert error.value.code == "UNKNOWN_BLOB"
    for restarted in (False, True):
        if restarted:
            broker.restart()
        reply = client.request("PUT", {"digest": digest, "bytes_total": len(content), "offset": 0}).header
        assert (reply["received"], reply["complete"]) == (4 << 20, False)
    assert client.upload(file) == digest
    assert client.request("PUT", {"digest": digest, "bytes_total": len(content), "offset": 0}).header["complete"]
    assert not list((broker.home / "blobs" / ".partial").iterdir())
    assert (broker.home / "blobs" / digest[7:9] / digest[7:]).read_bytes() == content


def test_what_is_not_the_announced_content_is_refused_and_can_be_sent_again(broker):
    client = broker.client()
    content = b"the right bytes"
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    with pytest.raises(LoraqError) as error:
        client.request("PUT", {"digest": digest, "bytes_total": len(content), "offset": 0}, [("piece", content[::-1])])
    assert error.value.code == "DIGEST_MISMATCH"
    assert client.upload(content) == digest
