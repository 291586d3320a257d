"""The JSON Schemas of LQP/1, and which of them a message must keep to."""

from __future__ import annotations

import functools
import json
import pathlib
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "schemas"
SUFFIX = ".schema.json"

_BY_SELECTION = {"STATUS": "jobs", "HOLD": "job_states", "RELEASE": "job_states"}
_REPLIES = {"LIST": "jobs", "CANCEL": "job_states"}
_WORKER = {
    "HELLO": "dispatch.hello",
    "CREDIT": "dispatch.credit",
    "BEAT": "dispatch.beat",
    "DEFER": "dispatch.defer",
    "BYE": "dispatch.bye",
    "RESULT": "results.result",
    "PROGRESS": "results.progress",
    "LOG": "results.log",
    "CHUNK": "results.chunk",
    "WELCOME": "dispatch.welcome",
    "TASK": "dispatch.task",
    "BEAT_ACK": "dispatch.beat_ack",
    "PREEMPT": "dispatch.stop",
    "CANCEL": "dispatch.stop",
    "RESULT_ACK": "dispatch.result_ack",
    "DRAIN": "dispatch.drain",
    "ERROR": "error",
}


@functools.cache
def documents() -> dict[str, Any]:
    """All schemas by file name."""
    return {path.name: json.loads(path.read_text()) for path in sorted((SCHEMAS / "v1").glob(f"*{SUFFIX}"))}


@functools.cache
def validator(name: str) -> Draft202012Validator:
    registry = Registry().with_resources([(key, Resource.from_contents(value)) for key, value in documents().items()])
    return Draft202012Validator(documents()[name + SUFFIX], registry=registry)


def check(name: str, value: Any) -> None:
    """Fails with every fault of `value`, by path."""
    faults = [f"{error.json_path}: {error.message[:300]}" for error in validator(name).iter_errors(value)]
    assert not faults, f"{name}: {faults[:5]} in {json.dumps(value)[:500]}"


def request_schema(verb: str) -> str:
    if verb in _BY_SELECTION:
        return "status.request" if verb == "STATUS" else "select.request"
    return "empty.request" if verb in ("PING", "WORKERS") else f"{verb.lower()}.request"


def reply_schema(verb: str) -> str:
    return f"{_BY_SELECTION.get(verb) or _REPLIES.get(verb) or verb.lower()}.reply"


def worker_schema(verb: str) -> str:
    """Of a message on the dispatch or results socket."""
    return _WORKER[verb]
