"""A short campaign of `chaos.py`; `make chaos KILLS=500` runs a long one."""

import pytest
from chaos import Campaign


@pytest.mark.parametrize("seed", [1, 2])
def test_every_line_is_answered_once_through_kills_at_random(broker, seed):
    campaign = Campaign(broker, seed)
    campaign.run(kills=8)
    result = campaign.check()
    assert result["broker"] + result["worker"] == 8
    assert result["lines"] > 0
    print(result)
