"""Garbage on every socket; REQ clients; what is too large; replies to what is not understood."""

import json
import random

import pytest
import zmq
from harness import DEADLINE_S
from loraq import Message

from schemas import check

TAG = b"LQP/1"
GOOD = b'{"request_id":"g","jobs":["no-such-job"],"bodies":[]}'


def garbage(generator: random.Random, count: int) -> list[list[bytes]]:
    """Messages that are wrong in every way, the mutated ones from a good one."""
    fixed = [
        [b""],
        [b"", b""],
        [TAG],
        [TAG, b"PING"],
        [b"LQP/2", b"PING", b"{}"],
        [TAG, b"PING", b""],
        [TAG, b"PING", b"[]"],
        [TAG, b"PING", b"{"],
        [TAG, b"\xff\xff", b"{}"],
        [TAG, b"STATUS", b'{"jobs":"all"}'],
        [TAG, b"SUBMIT", b'{"job":{"id":"../../etc/passwd","kind":"x","spec":{}}}'],
        [TAG, b"SUBMIT", b'{"bodies":[{"name":"a","bytes":9999999999999999999}]}', b"x"],
        [TAG, b"PUT", b'{"digest":"sha256:00","bytes_total":-1}', b"x"],
        [TAG, b"HELLO", b'{"instance":"x","holding":[{}]}'],
        [TAG, b"RESULT", b'{"session":"x","seq":1,"results":[{"task":"y"}]}'],
        [TAG, b"TASK", b'{"tasks":[]}'],
        [TAG, b"PING", b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"],
        [TAG, b"PING", b'{"a":"' + b"x" * (70 << 10) + b'"}'],
        [TAG, b"PING", b"{}", *[b""] * 300],
        [b"x" * (1 << 20)],
    ]
    random_ones = []
    for _ in range(count):
        header = bytearray(GOOD)
        for _ in range(generator.randrange(1, 8)):
            header[generator.randrange(len(header))] = generator.randrange(256)
        frames = [TAG, generator.choice([b"STATUS", b"CANCEL", b"BEAT", b"RESULT", b"FETCH"]), bytes(header)]
        if generator.random() < 0.3:
            frames.insert(generator.randrange(len(frames)), generator.randbytes(generator.randrange(40)))
        random_ones.append(frames)
    return fixed + random_ones


def errors_until_answered(socket, name: str) -> int:
    """Sends a good request behind the garbage and reads until its answer; how many `ERROR`s came before it."""
    verb, header = ("PING", {}) if name == "control" else ("BEAT", {"session": "x", "held": [], "rss_bytes": 0})
    socket.send_multipart(Message(verb, {"request_id": "last"} | header).frames())
    errors = 0
    while True:
        assert socket.poll(int(DEADLINE_S * 1000)), "no answer after the garbage"
        reply = Message.parse(socket.recv_multipart())
        check("error", reply.header) if reply.verb == "ERROR" else None
        if reply.request_id == "last" or reply.header.get("error", {}).get("code") == "UNKNOWN_SESSION":
            return errors
        errors += reply.verb == "ERROR"


def test_garbage_on_every_socket_harms_nobody(broker):
    client = broker.client()
    job = client.submit("countdown", {"seconds": 1})
    for number, (name, kind) in enumerate({"control": zmq.DEALER, "dispatch": zmq.DEALER, "results": zmq.PUSH}.items()):
        with zmq.Context() as context, context.socket(kind) as socket:
            socket.setsockopt(zmq.LINGER, 2000)
            socket.connect(broker.endpoint(name))
            for frames in garbage(random.Random(number), 300):
                socket.send_multipart(frames)
            if kind == zmq.DEALER:
                answers = errors_until_answered(socket, name)
                assert answers > 300, "every wrong request gets its ERROR"
        assert broker.process.poll() is None, f"{name}: {broker.log()[-2000:]}"
    assert client.wait(job, DEADLINE_S)["state"] == "succeeded"
    assert client.workers()["workers"][0]["restarts"] == 0


def raw(broker, frames: list[bytes], kind: int = zmq.DEALER) -> list[bytes]:
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(broker.endpoint("control"))
        socket.send_multipart(frames)
        assert socket.poll(int(DEADLINE_S * 1000)), "no answer"
        return socket.recv_multipart()


def test_a_req_socket_is_answered(broker):
    reply = Message.parse(raw(broker, Message("PING", {"request_id": "r"}).frames(), zmq.REQ))
    assert reply.verb == "OK"
    assert reply.request_id == "r"


def test_a_hello_on_control_is_welcomed(broker):
    reply = Message.parse(raw(broker, Message("HELLO", {"client": "test", "protocols": ["LQP/1"]}).frames()))
    assert reply.verb == "WELCOME"
    check("control.welcome", reply.header)


@pytest.mark.parametrize(
    ("frames", "code", "request_id"),
    [
        ([TAG, b"NOVELTY", b'{"request_id":"r"}'], "UNKNOWN_VERB", "r"),
        ([TAG, b"STATUS", b'{"request_id":"r"}'], "BAD_HEADER", "r"),
        ([TAG, b"STATUS", b'{"request_id":"r","jobs":7}'], "BAD_HEADER", "r"),
        ([TAG, b"STATUS", b"{"], "BAD_HEADER", None),
        ([TAG, b"PING", b'{"request_id":"r"}', b"unannounced"], "BAD_FRAME", "r"),
        ([b"HTTP/1.1", b"GET", b"{}"], "BAD_FRAME", None),
        ([TAG, b"PING", b'{"a":"' + b"x" * (70 << 10) + b'"}'], "TOO_LARGE", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_answered_by_its_code(broker, frames, code, request_id):
    reply = Message.parse(raw(broker, frames))
    assert reply.verb == "ERROR"
    check("error", reply.header)
    assert reply.header["error"]["code"] == code
    assert reply.request_id == request_id


def test_unknown_header_fields_are_ignored(broker):
    reply = Message.parse(raw(broker, Message("PING", {"request_id": "r", "from_the_future": [1, {"a": None}]}).frames()))
    assert reply.verb == "OK"


def test_events_carry_topic_and_keep_to_the_schema(broker):
    client = broker.client()
    with client._subscribed("job/") as socket:
        # A subscription is in force once something has come through it; jobs are cheap.
        while not socket.poll(200):
            job = client.submit("countdown", {"seconds": 0})
        job = client.submit("countdown", {"seconds": 0.2})
        seen = set()
        while "job.succeeded" not in seen:
            assert socket.poll(int(DEADLINE_S * 1000)), f"no event; so far {seen}"
            topic, *frames = socket.recv_multipart()
            message = Message.parse(frames)
            assert message.verb == "EVENT"
            check("event", message.header)
            assert topic == f"job/{message.header['job']}".encode()
            if message.header["job"] == job:
                seen.add(message.header["type"])
        assert {"task.started", "progress", "job.succeeded"} <= seen


def test_names_are_never_paths(broker):
    client = broker.client()
    bodies = [
        ("EXPLAIN", {"job": "../../x"}),
        ("GET", {"artifact": "../x"}),
        ("GET", {"artifact": "tiny", "file": "../../jobs.sqlite"}),
        ("TAG", {"artifact": "tiny", "tag": "../x"}),
        ("REMOVE", {"artifact": "/etc"}),
        ("LOGS", {"worker": "../../etc/passwd"}),
        ("SCALE", {"plugin": "../x", "instances": 1}),
    ]
    for verb, header in bodies:
        reply = Message.parse(raw(broker, [TAG, verb.encode(), json.dumps({"request_id": "r"} | header).encode()]))
        assert reply.verb == "ERROR", verb
        assert reply.header["error"]["class"] == "user", verb
    assert client.ping()
