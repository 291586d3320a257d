"""A short campaign of `garbage.py`; `make garbage FRAMES=1000000` runs a long one."""

from garbage import campaign


def test_garbage_on_every_socket_disturbs_no_job_and_takes_no_memory(broker):
    result = campaign(broker, frames=40_000, seed=1)
    assert result["errors"] > 1000, "what is wrong gets its ERROR"
    print(result)
