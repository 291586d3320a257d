"""docs/operations.md names every limit of the queue with the value that the code has."""

import re

import harness

#: Policies with several numbers; they stand in docs/states.md, in the table of outcomes.
POLICIES = {"crash", "lost", "timeout", "retryable", "preempted", "sharedDeathsOfLines", "sharedDeathsOfSingles"}
#: Set by the machine at the start.
OF_THE_MACHINE = {"memoryBudget"}


def test_the_table_of_limits_is_the_codes():
    source = (harness.ROOT / "Sources/BrokerCore/Limits.swift").read_text()
    source = source[source.index("public struct Limits") :]
    code = dict(re.findall(r"^    public var (\w+)(?:: [^=\n]+?)?(?: = (.+))?$", source, re.MULTILINE))
    text = (harness.ROOT / "docs/operations.md").read_text()
    table = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", text, re.MULTILINE))
    assert len(code) > 30
    assert set(table) == set(code) - POLICIES
    assert {name: value for name, value in table.items() if name not in OF_THE_MACHINE} == {
        name: value for name, value in code.items() if name in table and name not in OF_THE_MACHINE
    }
