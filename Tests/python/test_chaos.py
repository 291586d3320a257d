"""A short campaign of `chaos.py`; `make chaos KILLS=500` runs a long one."""

import harness
import pytest
from chaos import Campaign


@pytest.mark.parametrize("seed", [1, 2])
def test_every_line_is_answered_once_through_kills_at_random(seed):
    broker = harness.Broker([harness.EXAMPLES])
    try:
        result = Campaign(broker, seed).run(kills=8)
    finally:
        broker.close()
    assert result["broker"] + result["worker"] >= 8
    assert result["lines"] > 0
    print(result)
