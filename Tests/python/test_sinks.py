"""Results pushed to a sink: complete, although a sink itself is at most once."""

import collections

import zmq
from harness import DEADLINE_S, until
from loraq import Message
from test_queue import words

from schemas import check


def counted(lines):
    return collections.Counter(line["custom_id"] for _, line in lines)


def test_a_stream_gives_every_line_and_ends(client):
    job = client.batch(words(300), kind="wordcount")
    lines = list(client.stream(job, timeout=DEADLINE_S))
    assert {name for name, _ in lines} == {job}
    assert counted(lines) == collections.Counter(f"c{n}" for n in range(300))


def test_a_stream_of_an_ended_job_is_its_lines(client):
    job = client.batch(words(20), kind="wordcount")
    client.wait(job, DEADLINE_S)
    assert len(list(client.stream(job, timeout=DEADLINE_S))) == 20


def test_a_stream_goes_on_after_the_brokers_death(broker):
    """KINDS 24: delivery goes on where it was."""
    client = broker.client()
    count = 500
    job = client.batch(words(count), kind="wordcount")
    lines = []
    for entry in client.stream(job, timeout=DEADLINE_S):
        lines.append(entry)
        if len(lines) in (20, 250):
            broker.restart()
    assert counted(lines) == collections.Counter(f"c{n}" for n in range(count))


def test_a_sink_that_does_not_read_harms_nobody_and_its_gap_is_fetched(broker):
    """KINDS 24: drops are counted, and the gap is fetched."""
    client = broker.client()
    count = 3000
    socket = client.context.socket(zmq.PULL)
    try:
        socket.setsockopt(zmq.RCVHWM, 1)
        endpoint = f"ipc://{broker.home}/slow"
        socket.bind(endpoint)
        job = client.batch(words(count), kind="wordcount")
        sink = client.request("ATTACH", {"endpoint": endpoint, "selector": job}).header["sink"]
        # The job ends although nothing is read from the sink.
        assert client.wait(job, DEADLINE_S)["state"] == "succeeded"
        sequences, cursor = [], None
        while socket.poll(1000):
            message = Message.parse(socket.recv_multipart())
            check({"LINE": "sink.line", "END": "sink.end"}[message.verb], message.header)
            sequences.append(message.header["sequence"])
            if message.verb == "LINE":
                cursor = cursor or message.header["cursor"]
        assert sequences == sorted(set(sequences))
        detached = client.request("DETACH", {"sink": sink}).header
        assert detached["sent"] + detached["dropped"] >= len(sequences)
    finally:
        socket.close(linger=0)
    # Whatever was dropped, FETCH has it.
    assert len(list(client.results(job))) == count


def test_a_client_that_vanishes_leaves_the_broker_unharmed(broker):
    """KINDS 24: a dead peer costs nothing."""
    client = broker.client()
    gone = broker.client()
    job = client.batch(words(200), kind="wordcount")
    stream = gone.stream(job, timeout=DEADLINE_S)
    next(stream)
    stream.close()
    assert client.wait(job, DEADLINE_S)["counts"]["done"] == 200
    until(lambda: client.ping(), "the broker answers")
