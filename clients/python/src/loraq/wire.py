"""Frames, headers and errors of LQP/1."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

TAG = b"LQP/1"
HEADER_BYTES = 64 << 10
BODY_BYTES = 4 << 20
BODIES = 256

Header = dict[str, Any]


class LoraqError(Exception):
    """An error that the broker or a worker reports: `code` is for programs, the text for people."""

    def __init__(self, error: Header) -> None:
        self.code: str = str(error.get("code", "INTERNAL"))
        self.error_class: str = str(error.get("class", "internal"))
        self.message: str = str(error.get("message", ""))
        self.hint: str | None = error.get("hint")
        self.retry_after_ms: int | None = error.get("retry_after_ms")
        self.details: Any = error.get("details")
        hint = f" ({self.hint})" if self.hint else ""
        super().__init__(f"{self.code}: {self.message}{hint}")


class BrokerUnavailable(Exception):
    """No broker answered in time."""


class ProtocolError(Exception):
    """A message is not what LQP/1 says it should be."""


@dataclass
class Message:
    """One message: a verb, a header, and named bodies in order."""

    verb: str
    header: Header = field(default_factory=dict)
    bodies: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def request_id(self) -> str | None:
        return self.header.get("request_id")

    def body(self, name: str) -> bytes | None:
        return next((data for known, data in self.bodies if known == name), None)

    def frames(self) -> list[bytes]:
        """The frames after the routing id."""
        header = dict(self.header)
        if self.bodies:
            header["bodies"] = [{"name": name, "bytes": len(data)} for name, data in self.bodies]
        encoded = json.dumps(header, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        if len(encoded) > HEADER_BYTES:
            raise ProtocolError(f"the header of {self.verb} has {len(encoded)} bytes, at most {HEADER_BYTES} fit")
        if len(self.bodies) > BODIES:
            raise ProtocolError(f"{len(self.bodies)} bodies, at most {BODIES} fit one message")
        for name, data in self.bodies:
            if len(data) > BODY_BYTES:
                raise ProtocolError(f"body `{name}` has {len(data)} bytes, at most {BODY_BYTES} fit")
        return [TAG, self.verb.encode(), encoded, *(data for _, data in self.bodies)]

    @classmethod
    def parse(cls, frames: Sequence[bytes]) -> Message:
        """Reads the frames after the routing id (and after the topic of an event)."""
        frames = list(frames)
        if frames and not frames[0]:
            frames.pop(0)
        if len(frames) < 3 or frames[0] != TAG:
            raise ProtocolError("a message is LQP/1, verb, header, bodies")
        try:
            header = json.loads(frames[2])
            verb = frames[1].decode("ascii")
        except ValueError as error:
            raise ProtocolError(f"the header is not JSON: {error}") from error
        if not isinstance(header, dict):
            raise ProtocolError("the header must be an object")
        named = header.pop("bodies", None) or []
        if len(named) != len(frames) - 3:
            raise ProtocolError(f"the header names {len(named)} bodies, but {len(frames) - 3} frames follow it")
        bodies = []
        for entry, data in zip(named, frames[3:], strict=True):
            if not isinstance(entry, dict) or entry.get("bytes") != len(data):
                raise ProtocolError("`bodies` does not agree with the frames")
            bodies.append((str(entry.get("name")), data))
        return cls(verb, header, bodies)
