"""docs/operations.md names every limit with the value that the code has and the way to change it; some are tried."""

import re
import subprocess

import harness
import pytest
import zmq
from harness import BIN, DEADLINE_S, until
from loraq import LoraqError
from test_queue import words

#: Policies with several numbers; they stand in docs/states.md, in the table of outcomes.
POLICIES = {"crash", "lost", "timeout", "retryable", "preempted", "sharedDeathsOfLines", "sharedDeathsOfSingles"}
#: Set by the machine at the start.
OF_THE_MACHINE = {"memoryBudget"}

SOURCES = harness.ROOT / "Sources"
ROWS = re.findall(
    r"^\| `([\w.]+)`[^|]*\| ([^|]+?) \| ([^|]+?) \| ([^|]+?) \|$", (harness.ROOT / "docs/operations.md").read_text(), re.MULTILINE
)


def test_the_table_of_limits_is_the_codes():
    source = (SOURCES / "BrokerCore/Limits.swift").read_text()
    source = source[source.index("public struct Limits") :]
    code = dict(re.findall(r"^    public var (\w+)(?:: [^=\n]+?)?(?: = (.+))?$", source, re.MULTILINE))
    table = {name: value for name, value, _, _ in ROWS if "." not in name}
    assert len(code) > 30
    assert set(table) == set(code) - POLICIES
    assert {name: value for name, value in table.items() if name not in OF_THE_MACHINE} == {
        name: value for name, value in code.items() if name in table and name not in OF_THE_MACHINE
    }


def test_the_table_of_other_limits_is_the_codes():
    rows = [(name, value) for name, value, _, _ in ROWS if "." in name]
    assert len(rows) > 20
    text = {path: path.read_text() for path in SOURCES.rglob("*.swift")}
    for name, value in rows:
        owner, member = name.split(".")
        opening = re.compile(rf"^(public |final )*(struct|enum|class) {owner}\b", re.MULTILINE)
        files = [content for content in text.values() if opening.search(content)]
        assert files, f"there is no {owner}"
        found = [match for content in files for match in re.findall(rf"\b{member} = ([^\n]+)", content)]
        assert value in found, f"{name}: the code says {found}, the table {value}"


def test_the_table_says_which_can_be_set():
    source = (SOURCES / "BrokerCore/LimitNames.swift").read_text()
    settable = set(re.findall(r'"(\w+)": \\\.', source))
    marked = {name for name, _, _, change in ROWS if "--limit" in change}
    assert marked == settable - {"numericsUnavailableMilliseconds"}


@pytest.mark.parametrize("word", ["nonsense=1", "tenants", "tenants=0", "tenants=x", "tenants=99999999999999999999", "specBytes=1"])
def test_what_is_no_limit_is_refused_at_the_start(word, tmp_path):
    command = [str(BIN / "loraqd"), "--home", str(tmp_path), "--limit", word]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 64
    assert "--limit" in done.stderr and "unfinishedJobs" in done.stderr


def limited(**limits: int) -> list[str]:
    return [part for name, value in limits.items() for part in ("--limit", f"{name}={value}")]


def refused(call) -> LoraqError:
    with pytest.raises(LoraqError) as error:
        call()
    assert error.value.code == "LIMIT", error.value
    return error.value


def test_a_limit_that_is_reached_says_so_and_goes_when_there_is_room_again(tmp_path):
    kinds = [{"name": name, "class": "slot"} for name in ("echo", "prepare")]
    folder = harness.plugin_folder(tmp_path, "fake", "#!/bin/sh\n", {"kinds": kinds, "instances": 0})
    arguments = limited(unfinishedJobs=3, tenants=2, artifacts=1)
    with harness.running(folder, arguments=arguments) as broker:
        client = broker.client()
        jobs = [client.submit("echo", {}, tenant=tenant) for tenant in ("a", "b")]
        assert "tenants" in str(refused(lambda: client.submit("echo", {}, tenant="c")))
        n = {"name": "n", "path": str(tmp_path)}
        first = client.submit("prepare", {"name": "m", "path": str(tmp_path)}, tenant="a")
        error = refused(lambda: client.submit("echo", {}, tenant="a"))
        assert "unfinished jobs" in str(error) and error.error_class == "retryable"
        client.cancel(jobs[0])
        # The model that is not made yet counts already: what is made is never thrown away.
        assert "models and adapters" in str(refused(lambda: client.submit("prepare", n, tenant="a")))
        client.cancel(first)
        assert client.submit("prepare", n, tenant="a")


def test_the_history_of_events_keeps_to_its_limit():
    """KINDS 25: the oldest events go, and who asks for them is told where the history begins."""
    with harness.running(harness.EXAMPLES, arguments=limited(eventHistory=50)) as broker:
        client = broker.client()
        for _ in range(30):
            client.submit("countdown", {"seconds": 0})
        client.wait(client.batch(words(20), kind="wordcount"), DEADLINE_S)
        oldest = int(client.request("EVENTS", {"after": "0"}).header["oldest"])
        assert oldest > 1
        assert 0 < len(list(client.events(after="0"))) <= 50


def test_subscriptions_without_end_cost_the_broker_nothing_for_long():
    """KINDS 24: what peers subscribe to is bounded; those who read events hear on."""
    topics = int(re.search(r"maximumTopics = ([\d_]+)", (SOURCES / "Broker/EventSocket.swift").read_text())[1])
    with harness.running(harness.EXAMPLES) as broker, zmq.Context() as context, context.socket(zmq.SUB) as reader:
        client = broker.client()
        reader.connect(broker.endpoint("events"))
        reader.setsockopt(zmq.SUBSCRIBE, b"job/")

        def hears_of_a_new_job() -> bool:
            client.submit("countdown", {"seconds": 0})
            return reader.poll(200) != 0

        until(hears_of_a_new_job, "an event")
        with context.socket(zmq.SUB) as greedy:
            # Else what is beyond the high-water mark of 1,000 is never sent.
            greedy.setsockopt(zmq.SNDHWM, 0)
            greedy.connect(broker.endpoint("events"))
            for number in range(topics + 1_000):
                greedy.setsockopt(zmq.SUBSCRIBE, b"job/%064d" % number)
            until(lambda: "topics were subscribed to" in broker.log(), "the word about it")
        # What was published before the end of the old socket.
        while reader.poll(0):
            reader.recv_multipart()
        until(hears_of_a_new_job, "an event after it")
