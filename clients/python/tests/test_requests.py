"""The client against a broker of the test's own."""

import threading

import pytest
import zmq
from loraq import BrokerUnavailable, Client, LoraqError, Message


class FakeBroker:
    """Answers each request by a function on a thread of its own; None gives no answer."""

    def __init__(self, endpoint: str, answer) -> None:
        self.requests: list[Message] = []
        self._answer = answer
        self._over = threading.Event()
        self._bound = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(endpoint,))
        self._thread.start()
        assert self._bound.wait(10)

    def _run(self, endpoint: str) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.bind(endpoint)
            self._bound.set()
            while not self._over.is_set():
                if not socket.poll(20):
                    continue
                peer, *frames = socket.recv_multipart()
                request = Message.parse(frames)
                self.requests.append(request)
                reply = self._answer(request)
                if reply is not None:
                    reply.header["request_id"] = request.request_id
                    socket.send_multipart([peer, *reply.frames()])

    def close(self) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture
def served(tmp_path):
    """Starts a fake broker and a client; ends both."""
    open_now = []

    def start(answer, timeout=20.0):
        endpoint = f"ipc://{tmp_path}/control"
        broker = FakeBroker(endpoint, answer)
        open_now.append(broker)
        client = Client(control=endpoint, events=f"ipc://{tmp_path}/events", timeout=timeout)
        open_now.append(client)
        return broker, client

    yield start
    for thing in reversed(open_now):
        thing.close()


def test_an_error_reply_is_raised(served):
    _, client = served(lambda _: Message("ERROR", {"error": {"code": "UNKNOWN_JOB", "class": "user", "message": "no"}}))
    with pytest.raises(LoraqError) as error:
        client.explain("x")
    assert error.value.code == "UNKNOWN_JOB"


def test_a_request_that_was_lost_is_sent_again(served):
    seen = []

    def answer(request):
        seen.append(request)
        return Message("OK", {"epoch": 1}) if len(seen) > 1 else None

    _, client = served(answer)
    assert client.ping()["epoch"] == 1
    assert seen[0].request_id == seen[1].request_id


def test_a_request_that_may_not_be_repeated_is_not(served):
    broker, client = served(lambda _: None, timeout=3.0)
    with pytest.raises(BrokerUnavailable):
        client.retry("x")
    assert len(broker.requests) == 1


def test_without_a_broker_the_call_ends_in_time(tmp_path):
    with Client(tmp_path, timeout=0.2) as client, pytest.raises(BrokerUnavailable) as error:
        client.ping()
    assert "loraq up" in str(error.value)


def test_an_upload_goes_on_where_the_broker_stands(served):
    stored = bytearray(b"01234")

    def answer(request):
        header = request.header
        piece = request.body("piece")
        if piece is not None and header["offset"] == len(stored):
            stored.extend(piece)
        return Message(
            "OK", {"digest": header["digest"], "received": len(stored), "complete": len(stored) == header["bytes_total"]}
        )

    broker, client = served(answer)
    digest = client.upload(b"0123456789")
    assert bytes(stored) == b"0123456789"
    assert digest.startswith("sha256:")
    assert [request.header["offset"] for request in broker.requests] == [0, 5]


def test_a_download_stays_in_its_folder(served, tmp_path):
    record = {"name": "tiny:a", "version": 1}
    _, client = served(lambda _: Message("OK", {"artifact": record, "files": [{"name": "../evil", "bytes": 1}]}))
    with pytest.raises(Exception, match="outside"):
        client.download("tiny:a", tmp_path / "out")
    assert not (tmp_path / "evil").exists()
