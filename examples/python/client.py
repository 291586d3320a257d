#!/usr/bin/env python3
"""Submits a batch to the `wordcount` plugin beside this file and prints each answer as it comes.

    loraqd --workers examples/python &
    python examples/python/client.py

Needs `pip install loraq` (clients/python), or that folder's `src` on PYTHONPATH.
"""

import argparse
import pathlib
import sys

try:
    from loraq import Client, new_job_id
except ModuleNotFoundError:  # run from the repository, without an installed client
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "clients" / "python" / "src"))
    from loraq import Client, new_job_id


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", help="the broker's home (default: $LORAQ_HOME)")
    parser.add_argument("--lines", type=int, default=20)
    parser.add_argument("--timeout", type=float, default=30, help="seconds to wait for a broker that does not answer")
    arguments = parser.parse_args()
    lines = [{"custom_id": f"line-{n}", "text": "word " * n + "end"} for n in range(arguments.lines)]
    with Client(arguments.home, timeout=arguments.timeout) as client:
        # An id chosen here makes it safe to send again: the same id and content are one job.
        job = client.batch(lines, kind="wordcount", id=new_job_id(), label="example")
        print(f"submitted {job}")
        for _, line in client.stream(job, timeout=60):
            print(f"{line['custom_id']}: {line['words']} words")
        status = client.wait(job, timeout=60)
        print(f"{status['state']}: {status['counts']['done']} of {status['counts']['total']} lines, {status['usage']}")
    return 0 if status["state"] == "succeeded" else 1


if __name__ == "__main__":
    sys.exit(main())
