"""One attempt at a task in the hands of a plugin, and the ways to end it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .wire import Header

if TYPE_CHECKING:
    from .worker import Worker


class TaskError(Exception):
    """Ends a task with an error. `retryable=False` is final: the same task would fail again."""

    def __init__(
        self, code: str, message: str, *, retryable: bool = False, param: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.error_class = "retryable" if retryable else "user"
        self.param = param
        self.hint = hint


class Stopped(Exception):
    """Raised by `Task.check()` when the task should end: `reason` is `preempted`, `cancelled` or `dropped`.

    A function lets it through after it has saved what is needed to go on (`preempted`), or returns what it has.
    """

    def __init__(self, reason: str, partial: Header | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.partial = partial


class PutBack(Exception):
    """Gives the task back unrun; costs no attempt."""

    def __init__(self, reason: str, retry_after: float = 1.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class Task:
    """One attempt at a task, in the hands of a plugin's function."""

    def __init__(self, envelope: Header, line: bytes | None, worker: Worker) -> None:
        #: All that the broker said, as docs/protocol.md describes it.
        self.envelope = envelope
        #: The request line as it was written; None for a job of one task.
        self.line = line
        self.usage: dict[str, float] = {}
        #: Numbers that `after … if` may read.
        self.metrics: dict[str, float] = {}
        self.artifacts: list[Header] = []
        self._worker = worker
        self._counter = 0
        self._stop: str | None = None
        self._final: Header | None = None

    @property
    def id(self) -> str:
        return self.envelope["task"]

    @property
    def kind(self) -> str:
        return self.envelope["kind"]

    @property
    def spec(self) -> Any:
        return self.envelope["spec"]

    @property
    def custom_id(self) -> str | None:
        return self.envelope.get("custom_id")

    @property
    def workdir(self) -> str | None:
        """A folder of the job's, kept between attempts; only for jobs of one task."""
        return self.envelope.get("workdir")

    @property
    def request(self) -> Any:
        """The request line as JSON."""
        try:
            return json.loads(self.line or b"null")
        except ValueError as error:
            raise TaskError("BAD_LINE", f"not JSON: {error}") from error

    def input(self, name: str) -> str:
        """The path of an input file."""
        for entry in self.envelope.get("inputs") or []:
            if entry["name"] == name:
                return entry["path"]
        raise TaskError("INVALID_SPEC", f"the job has no input `{name}`")

    def artifact(self, ref: str) -> Header:
        """The artifact that was written as `ref`, resolved and pinned."""
        for entry in self.envelope.get("artifacts") or []:
            if entry["ref"] == ref:
                return entry
        raise TaskError("UNKNOWN_ARTIFACT", f"the task was sent without `{ref}`")

    def outcome(self, job: str) -> Header:
        """How a job ended that this one comes after with `tell`: `state`, `metrics`, and `error` if there was one."""
        for entry in self.envelope.get("outcomes") or []:
            if entry["job"] == job:
                return entry
        raise TaskError("INVALID_SPEC", f"job {job} is not in `after` with `tell`")

    @property
    def stop_reason(self) -> str | None:
        return self._stop

    def check(self) -> None:
        """Raises `Stopped` when the task should end. Call it at every boundary at which that is possible."""
        if self._stop is not None:
            raise Stopped(self._stop)

    def advance(self, amount: int = 1) -> None:
        """Moves the progress counter on: a counter that stands still for longer than the kind's `stall_ms` is taken for hung."""
        self._counter += max(0, amount)

    def report(
        self,
        *,
        done: float | None = None,
        total: float | None = None,
        unit: str | None = None,
        metrics: Mapping[str, float] | None = None,
        message: str | None = None,
    ) -> None:
        """Reports to people; counts as headway. Of reports in quick succession the newest is sent."""
        self.advance()
        fields = {
            "counter": self._counter,
            "done": done,
            "total": total,
            "unit": unit,
            "metrics": dict(metrics or {}) or None,
            "message": message,
        }
        self._worker._post("progress", self, {key: value for key, value in fields.items() if value is not None})

    def chunk(self, text: str, token_index: int, choice: int = 0) -> None:
        """Streams text that was generated, to those who listen now."""
        self._worker._post("chunk", self, {"token_index": token_index, "text": text} | ({"choice": choice} if choice else {}))

    def log(self, message: str, level: str = "info") -> None:
        self._worker._post("log", self, {"level": level, "message": message[:8000]})

    def response(self, body: Any, status_code: int = 200) -> Header:
        """OpenAI's output line around the body of a response, to be returned."""
        response = {"status_code": status_code, "request_id": self.id, "body": body}
        return {"id": self.id, "custom_id": self.custom_id, "response": response, "error": None}

    def _reference(self) -> Header:
        return {key: self.envelope[key] for key in ("task", "attempt", "lease")}

    def _name(self) -> tuple[str, int]:
        return self.envelope["task"], self.envelope["attempt"]
