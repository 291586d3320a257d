"""Frames both ways, and ids."""

import json
import uuid

import pytest
from loraq import LoraqError, Message, ProtocolError, new_job_id
from loraq.wire import BODY_BYTES, TAG


def test_a_message_comes_through_its_frames():
    message = Message("PUT", {"request_id": "r"}, [("piece", b"abc"), ("empty", b"")])
    again = Message.parse(message.frames())
    assert again == message
    assert again.body("piece") == b"abc"
    assert again.body("other") is None
    assert Message.parse([b"", *message.frames()]) == message


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [TAG, b"OK"],
        [b"LQP/2", b"OK", b"{}"],
        [TAG, b"OK", b"[]"],
        [TAG, b"OK", b"{"],
        [TAG, b"\xff", b"{}"],
        [TAG, b"OK", b"{}", b"unannounced"],
        [TAG, b"OK", b'{"bodies":[{"name":"a","bytes":2}]}', b"x"],
        [TAG, b"OK", b'{"bodies":[7]}', b"x"],
    ],
)
def test_malformed_frames_are_refused(frames):
    with pytest.raises(ProtocolError):
        Message.parse(frames)


def test_what_is_too_large_is_not_sent():
    for message in (
        Message("PUT", {"x": "y" * 70_000}),
        Message("PUT", {}, [("piece", b"x" * (BODY_BYTES + 1))]),
        Message("PUT", {}, [("piece", b"")] * 300),
    ):
        with pytest.raises(ProtocolError):
            message.frames()


def test_job_ids_are_uuid_version_7_and_sort_by_time():
    ids = [new_job_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(uuid.UUID(text).version == 7 and uuid.UUID(text).variant == uuid.RFC_4122 and text == text.lower() for text in ids)
    times = [text[:13] for text in ids]
    assert times == sorted(times)


def test_an_error_says_code_message_and_hint():
    error = LoraqError(json.loads('{"code": "GONE", "class": "user", "message": "pruned", "hint": "submit anew"}'))
    assert str(error) == "GONE: pruned (submit anew)"
    assert error.error_class == "user"
