#!/usr/bin/env python3
"""A worker plugin with two kinds of its own: `wordcount` counts the words of each line, `countdown` is one long task.

loraqd starts it when this folder stands in `$LORAQ_HOME/workers/` (or is named by `loraqd --workers`):

    loraq batch lines.jsonl --kind wordcount --wait        lines like {"custom_id": "a", "text": "one two three"}
    loraq submit countdown '{"seconds": 5}'

Needs `pip install loraq` (clients/python), or that folder's `src` on PYTHONPATH.
"""

import json
import pathlib
import sys
import time

try:
    from loraq.worker import Stopped, Task, TaskError, Worker
except ModuleNotFoundError:  # run from the repository, without an installed client
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "clients" / "python" / "src"))
    from loraq.worker import Stopped, Task, TaskError, Worker

worker = Worker(version="1.0")


@worker.kind("wordcount", resource_class="slot", threads=4, prefetch=28)
def wordcount(task: Task) -> dict:
    """One line: `{"custom_id", "text"}` → `{"custom_id", "words", "longest"}`."""
    text = task.request.get("text")
    if not isinstance(text, str):
        raise TaskError("BAD_LINE", "`text` must be a string", param="text")
    words = text.split()
    task.usage = {"words": len(words)}
    return {"words": len(words), "longest": max(words, key=len, default="")}


@worker.kind("countdown", resource_class="slot", threads=4, prefetch=28)
def countdown(task: Task) -> dict:
    """One long task, `{"seconds": n}`: reports progress, stops when asked, and goes on where an earlier attempt gave way."""
    seconds = task.spec.get("seconds")
    if not isinstance(seconds, int | float) or not 0 <= seconds <= 86_400:
        raise TaskError("INVALID_SPEC", "`seconds` must be a number from 0 to 86400", param="seconds")
    if task.workdir is None:
        raise TaskError("INVALID_SPEC", "countdown takes no lines")
    state = pathlib.Path(task.workdir) / "countdown.json"
    done = json.loads(state.read_text())["done"] if state.exists() else 0.0
    resumed_from = done
    while done < seconds:
        time.sleep(min(0.1, seconds - done))
        done += 0.1
        task.report(done=done, total=seconds, unit="seconds", metrics={"left": seconds - done})
        try:
            task.check()
        except Stopped:
            # Saved aside, then renamed: a state file is whole or absent.
            part = state.with_suffix(".part")
            part.write_text(json.dumps({"done": done}))
            part.rename(state)
            raise
    task.metrics = {"seconds": seconds}
    return {"seconds": seconds, "resumed_from": resumed_from, "attempt": task.envelope["attempt"]}


if __name__ == "__main__":
    worker.run()
