"""The client side of LQP/1: submit jobs, watch them, fetch what they made."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import zmq

from .sink import stream as sink_stream
from .wire import BODY_BYTES, BrokerUnavailable, Header, LoraqError, Message, ProtocolError

FINAL_STATES = frozenset({"succeeded", "failed", "cancelled", "skipped", "dependency_failed"})

#: A file, its content, or the digest of a blob that was uploaded before.
Input = str | os.PathLike[str] | bytes
#: The id of a job that must succeed first, or an entry of `after` in full.
After = str | Mapping[str, Any]

# Requests that may do something else when they arrive twice.
_NOT_REPEATABLE = frozenset({"RETRY", "ATTACH", "TAG", "REMOVE"})
_RESEND_AFTER_S = 2.0
# Selectors of one STATUS.
_SELECTORS = 200


def new_job_id() -> str:
    """A fresh UUIDv7 (RFC 9562), as job ids are."""
    value = (time.time_ns() // 1_000_000) << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def default_home() -> pathlib.Path:
    """`$LORAQ_HOME`, or `~/.local/share/loraq`."""
    home = os.environ.get("LORAQ_HOME")
    return pathlib.Path(home) if home else pathlib.Path.home() / ".local" / "share" / "loraq"


def _remote_broker(folder: pathlib.Path) -> dict[str, str]:
    file = folder / "broker.json"
    if not file.exists():
        return {}
    fields = json.loads(file.read_text())
    missing = [name for name in ("control", "events", "server_key", "public_key", "secret_key") if not fields.get(name)]
    if missing:
        raise ValueError(f"{file}: {', '.join(missing)} missing; make it with `loraq keys add` on the broker's machine")
    return fields


class Client:
    """A connection to a broker. Use one per thread, as a context manager or with `close()`.

    Every call but those that act anew each time (`retry`, `tag`, `remove`, a sink's attachment) is sent again when no answer
    comes, so calls survive a restart of the broker within `timeout` seconds.
    """

    def __init__(
        self,
        home: str | os.PathLike[str] | None = None,
        *,
        control: str | None = None,
        events: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        folder = (pathlib.Path(home) if home is not None else default_home()).absolute()
        run = folder / "run"
        #: A home with a `broker.json` (of `loraq keys add`) speaks to a broker on another machine, by CURVE.
        self._remote = _remote_broker(folder) if control is None else {}
        self.control_endpoint = control or self._remote.get("control") or f"ipc://{run / 'control'}"
        self.events_endpoint = events or self._remote.get("events") or f"ipc://{run / 'events'}"
        self.timeout = timeout
        self.context = zmq.Context()
        self._socket = self._connect()

    def _connect(self) -> zmq.Socket[bytes]:
        socket = self.context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        # Nothing is queued for a broker that is not there.
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        self._secure(socket)
        socket.connect(self.control_endpoint)
        return socket

    def _secure(self, socket: zmq.Socket[bytes]) -> None:
        """Sets the keys for a broker on another machine."""
        if self._remote:
            socket.setsockopt(zmq.CURVE_SERVERKEY, self._remote["server_key"].encode())
            socket.setsockopt(zmq.CURVE_PUBLICKEY, self._remote["public_key"].encode())
            socket.setsockopt(zmq.CURVE_SECRETKEY, self._remote["secret_key"].encode())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close(linger=0)
        self.context.term()

    # -- Requests

    def request(
        self, verb: str, header: Header | None = None, bodies: Sequence[tuple[str, bytes]] = (), timeout: float | None = None
    ) -> Message:
        """Sends one request and returns its `OK`.

        Raises `LoraqError` for an `ERROR`, and `BrokerUnavailable` when nothing came within `timeout` seconds.
        """
        request_id = secrets.token_hex(8)
        fields = {"request_id": request_id} | {key: value for key, value in (header or {}).items() if value is not None}
        frames = Message(verb, fields, list(bodies)).frames()
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        sent = False
        resend_at = 0.0
        while (now := time.monotonic()) < deadline:
            if now >= resend_at and (not sent or verb not in _NOT_REPEATABLE):
                # Without a connection there is nowhere to send to yet.
                if self._socket.poll(max(1, int(min(0.25, deadline - now) * 1000)), zmq.POLLOUT):
                    self._socket.send_multipart(frames)
                    sent = True
                    resend_at = time.monotonic() + _RESEND_AFTER_S
                else:
                    continue
            wait = min(deadline, resend_at if resend_at > now else deadline) - time.monotonic()
            if not self._socket.poll(max(1, int(wait * 1000)), zmq.POLLIN):
                continue
            reply = Message.parse(self._socket.recv_multipart())
            if reply.request_id != request_id:
                continue  # the answer to a request that was given up or sent twice
            if reply.verb == "ERROR":
                raise LoraqError(reply.header.get("error") or {})
            return reply
        raise BrokerUnavailable(f"no broker answered {verb} at {self.control_endpoint}; start it with `loraq up`")

    def ping(self, timeout: float | None = None) -> Header:
        """Epoch, version, uptime, and how many jobs there are by state."""
        return self.request("PING", timeout=timeout).header

    # -- Submitting

    def upload(self, source: Input) -> str:
        """Uploads a file or bytes as a blob, in pieces, going on where an earlier attempt stopped. Its digest."""
        with _open(source) as file:
            hasher = hashlib.sha256()
            total = 0
            while chunk := file.read(1 << 20):
                hasher.update(chunk)
                total += len(chunk)
            digest = f"sha256:{hasher.hexdigest()}"
            header = {"digest": digest, "bytes_total": total}
            reply = self.request("PUT", header | {"offset": 0}).header
            while not reply["complete"]:
                file.seek(reply["received"])
                piece = file.read(min(BODY_BYTES, total - reply["received"]))
                if not piece and total:
                    raise ProtocolError(f"{digest}: the broker asks for byte {reply['received']} of {total}")
                reply = self.request("PUT", header | {"offset": reply["received"]}, [("piece", piece)]).header
        return digest

    def submit(
        self,
        kind: str,
        spec: Mapping[str, Any],
        inputs: Mapping[str, Input] | None = None,
        *,
        after: Iterable[After] = (),
        id: str | None = None,
        priority: int | None = None,
        tenant: str | None = None,
        label: str | None = None,
        max_seconds: int | None = None,
        memory_bytes: int | None = None,
        numerics: str | None = None,
        worker: str | None = None,
    ) -> str:
        """Submits a job and returns its id. Accepted means durable.

        An input is a path, bytes, or the digest of a blob. To send again safely after a crash of the caller, choose `id` (see
        `new_job_id`) and keep it: the same id with the same content is one job.
        """
        named = []
        for name, source in (inputs or {}).items():
            is_digest = isinstance(source, str) and source.startswith("sha256:")
            named.append({"name": name, "blob": source if is_digest else self.upload(source)})
        submission = {
            "id": id or new_job_id(),
            "kind": kind,
            "spec": dict(spec),
            "inputs": named or None,
            "after": [{"job": entry, "on": "success"} if isinstance(entry, str) else dict(entry) for entry in after] or None,
            "priority": priority,
            "tenant": tenant,
            "label": label,
            "max_seconds": max_seconds,
            "memory_bytes": memory_bytes,
            "numerics": numerics,
            "worker": worker,
        }
        job = {key: value for key, value in submission.items() if value is not None}
        return self.request("SUBMIT", {"job": job}).header["job"]

    def batch(
        self,
        lines: Input | Iterable[Mapping[str, Any]],
        *,
        model: str | None = None,
        strict: bool = False,
        kind: str = "infer",
        spec: Mapping[str, Any] | None = None,
        **common: Any,
    ) -> str:
        """Submits a batch: a JSONL file, bytes, or objects. Its lines are OpenAI batch lines unless `kind` is a plugin's own.

        `common` are the keyword arguments of `submit`.
        """
        if not isinstance(lines, str | bytes | os.PathLike):
            lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
        fields = dict(spec or {})
        if kind == "infer":
            fields |= {key: value for key, value in (("model", model), ("strict", strict or None)) if value is not None}
        return self.submit(kind, fields, {"lines": lines}, **common)

    def finetune(
        self,
        model: str,
        train: Input,
        name: str,
        *,
        eval: Input | None = None,
        recipe: Mapping[str, Any] | None = None,
        **common: Any,
    ) -> str:
        """Submits a fine-tune of `model` that makes the adapter `model:name`. `common` as in `submit`."""
        inputs = {"train": train} | ({"eval": eval} if eval is not None else {})
        return self.submit("finetune", {"model": model, "name": name, "recipe": dict(recipe or {})}, inputs, **common)

    # -- Watching

    def status(self, *selectors: str) -> list[Header]:
        """Job objects, each once; selectors are ids, their unique beginnings or ends, `last`, `all` (the default), labels."""
        if not selectors or "all" in selectors:
            return list(self.jobs())
        found: dict[str, Header] = {}
        for start in range(0, len(selectors), _SELECTORS):
            for job in self._pages("STATUS", "jobs", {"jobs": list(selectors[start : start + _SELECTORS])}):
                found.setdefault(job["job"], job)
        return list(found.values())

    def job(self, selector: str) -> Header:
        """The job object of one job."""
        jobs = self.status(selector)
        if len(jobs) != 1:
            raise LoraqError({"code": "AMBIGUOUS", "class": "user", "message": f"`{selector}` names {len(jobs)} jobs"})
        return jobs[0]

    def jobs(self, **filters: Any) -> Iterator[Header]:
        """All jobs, newest first. Filters: `state`, `kind`, `tenant`, `label`."""
        yield from self._pages("LIST", "jobs", filters)

    def wait(self, job: str, timeout: float | None = None) -> Header:
        """Waits until a job has ended, also across restarts of the broker, and returns its job object.

        Raises `TimeoutError` after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout if timeout is not None else None
        job = self.job(job)["job"]
        with self._subscribed(f"job/{job}") as events:
            while True:
                with contextlib.suppress(BrokerUnavailable):
                    status = self.job(job)
                    if status["state"] in FINAL_STATES:
                        return status
                if deadline is not None and time.monotonic() >= deadline:
                    raise TimeoutError(f"job {job} has not ended within {timeout} seconds")
                # An event says that something has changed; without one (the broker is away) look now and then.
                left = 1.0 if deadline is None else max(0.0, min(1.0, deadline - time.monotonic()))
                if events.poll(int(left * 1000)):
                    while events.poll(0):
                        events.recv_multipart()

    @contextlib.contextmanager
    def _subscribed(self, *topics: str) -> Iterator[zmq.Socket[bytes]]:
        socket = self.context.socket(zmq.SUB)
        socket.setsockopt(zmq.LINGER, 0)
        for topic in topics:
            socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
        self._secure(socket)
        socket.connect(self.events_endpoint)
        try:
            yield socket
        finally:
            socket.close(linger=0)

    def events(self, after: str | None = None, *, follow: bool = False, job: str | None = None) -> Iterator[Header]:
        """The kept events after a cursor, oldest first; with `follow` the iterator goes on with new ones for ever."""
        topic = f"job/{job}" if job is not None else ""
        with self._subscribed(topic) as socket:
            while True:
                page = self.request("EVENTS", {"after": after, "job": job}).header
                yield from page["events"]
                moved = page["next"] != after
                after = page["next"]
                if page["events"] and moved:
                    continue
                if not follow:
                    return
                if socket.poll(1000):
                    while socket.poll(0):
                        socket.recv_multipart()

    def explain(self, job: str) -> Header:
        """The one thing that a job waits for: `state` and `reason`."""
        return self.request("EXPLAIN", {"job": job}).header

    def verify(self, job: str) -> Header:
        """Has the broker prove from its files that every line was answered exactly once: the sums over all its lines.

        `verified` is true for a job that has ended and has no problem.
        """
        words = ("done", "failed", "dead", "cancelled", "open")
        total: Header = {"lines": 0, "answers": dict.fromkeys(words, 0), "problem_count": 0, "problems": []}
        after = None
        while True:
            page = self.request("VERIFY", {"job": job, "after": after}).header
            total |= {"job": page["job"], "state": page["state"], "lines": total["lines"] + page["lines"]}
            total["answers"] = {word: total["answers"][word] + page["answers"][word] for word in words}
            total["problem_count"] += page["problem_count"]
            total["problems"] = (total["problems"] + page["problems"])[:20]
            if page["complete"]:
                break
            after = page["next"]
        ended = page["state"] not in ("splitting", "waiting", "queued", "running", "held")
        return total | {"verified": ended and not total["answers"]["open"] and not total["problem_count"]}

    # -- Results

    def fetch(
        self, job: str, *, stream: str = "results", order: str = "completion", after: str | None = None, limit: int | None = None
    ) -> tuple[list[Any], str, bool]:
        """One page of results: the lines, the cursor that follows them, and whether nothing more will come."""
        reply = self.request("FETCH", {"job": job, "stream": stream, "order": order, "after": after, "limit": limit})
        lines = [json.loads(line) for line in (reply.body("lines") or b"").splitlines() if line]
        return lines, reply.header["next"], reply.header["complete"]

    def results(self, job: str, *, stream: str = "results", order: str = "completion", follow: bool = True) -> Iterator[Any]:
        """The lines of a job's output as they are accepted, until the job has ended; without `follow` those there are now.

        `stream`: `results`, `errors` or `all`. `order`: `completion` or `input`.
        """
        cursor: str | None = None
        topic = f"job/{self.job(job)['job']}" if follow else ""
        with self._subscribed(topic) if follow else contextlib.nullcontext(None) as events:
            while True:
                before = cursor
                try:
                    lines, cursor, complete = self.fetch(job, stream=stream, order=order, after=cursor)
                except BrokerUnavailable:
                    if not follow:
                        raise
                    continue
                yield from lines
                # A page may hold none of the lines asked for and yet lead on to more.
                is_level = not lines and cursor == before
                if complete or (is_level and events is None):
                    return
                if is_level and events is not None and events.poll(200):
                    while events.poll(0):
                        events.recv_multipart()

    def stream(self, selector: str, *, endpoint: str | None = None, timeout: float | None = None) -> Iterator[tuple[str, Any]]:
        """Results of the jobs that `selector` names, pushed by the broker to a socket of this client's, as `(job, line)`.

        Ends when all those jobs have ended. Nothing is lost: gaps are fetched. Lines of the results and of the errors come alike.
        """
        return sink_stream(self, selector, endpoint, timeout)

    # -- Changing

    def cancel(self, *selectors: str, reason: str | None = None) -> list[Header]:
        return self.request("CANCEL", {"jobs": list(selectors), "reason": reason}).header["jobs"]

    def retry(self, job: str, *, only: str = "failed", numerics: str | None = None) -> Header:
        return self.request("RETRY", {"job": job, "only": only, "numerics": numerics}).header

    def hold(self, *selectors: str) -> list[Header]:
        return self.request("HOLD", {"jobs": list(selectors)}).header["jobs"]

    def release(self, *selectors: str) -> list[Header]:
        return self.request("RELEASE", {"jobs": list(selectors)}).header["jobs"]

    # -- Artifacts

    def artifacts(self, *, type: str | None = None, name: str | None = None) -> Iterator[Header]:
        """Models and adapters; `name` is a reference, or `M:` for all adapters of M."""
        yield from self._pages("ARTIFACTS", "artifacts", {"type": type, "name": name})

    def download(self, artifact: str, folder: str | os.PathLike[str]) -> list[pathlib.Path]:
        """Writes an artifact's files into `folder`, which must not exist yet or be empty."""
        target = pathlib.Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise FileExistsError(f"{target} is not empty")
        listing = self.request("GET", {"artifact": artifact}).header
        record = listing["artifact"]
        pinned = f"{record['name']}@{record['version']}"
        written = []
        for entry in listing["files"]:
            path = (target / entry["name"]).resolve()
            if not path.is_relative_to(target.resolve()):
                raise ProtocolError(f"the file `{entry['name']}` would be written outside {target}")
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                while file.tell() < entry["bytes"]:
                    fields = {"artifact": pinned, "file": entry["name"], "offset": file.tell(), "bytes": BODY_BYTES}
                    piece = self.request("GET", fields).body("piece")
                    if not piece:
                        raise ProtocolError(f"`{entry['name']}` ends at byte {file.tell()} of {entry['bytes']}")
                    file.write(piece)
            written.append(path)
        return written

    def tag(self, artifact: str, tag: str, *, remove: bool = False) -> Header:
        return self.request("TAG", {"artifact": artifact, "tag": tag, "remove": remove or None}).header["artifact"]

    def remove(self, artifact: str, *, force: bool = False) -> list[str]:
        return self.request("REMOVE", {"artifact": artifact, "force": force or None}).header["removed"]

    # -- Workers

    def workers(self) -> Header:
        """`workers` and `plugins`."""
        return self.request("WORKERS").header

    def scale(self, plugin: str, instances: int) -> Header:
        return self.request("SCALE", {"plugin": plugin, "instances": instances}).header

    def drain(self, worker: str | None = None, *, stop: bool = False) -> list[str]:
        return self.request("DRAIN", {"worker": worker, "stop": stop or None}).header["draining"]

    def logs(self, job: str | None = None, *, worker: str | None = None, attempt: int | None = None) -> str:
        """The log of a job's newest (or given) attempt, or of a worker, as it is now."""
        parts, after = [], 0
        while True:
            reply = self.request("LOGS", {"job": job, "worker": worker, "attempt": attempt, "after": after})
            piece = reply.body("log") or b""
            parts.append(piece)
            after = reply.header["next"]
            if reply.header["complete"] or not piece:
                return b"".join(parts).decode(errors="replace")

    def _pages(self, verb: str, key: str, filters: Mapping[str, Any]) -> Iterator[Header]:
        after: str | None = None
        while True:
            reply = self.request(verb, dict(filters) | {"after": after}).header
            yield from reply[key]
            before, after = after, reply.get("next")
            if after is None:
                return
            if after == before:
                raise ProtocolError(f"the broker's answers to {verb} do not come to an end")


@contextlib.contextmanager
def _open(source: Input) -> Iterator[Any]:
    if isinstance(source, bytes):
        import io

        yield io.BytesIO(source)
    else:
        with open(source, "rb") as file:
            yield file
