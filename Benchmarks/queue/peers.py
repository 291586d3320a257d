"""The same no-op load on HyperQueue (`pip install hyperqueue`) and on RQ with a local Redis (`pip install rq`, `redis-server`).

Each prints one JSON object. Run by run.py with the interpreter that has them.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time


def nothing() -> None:
    """The task of RQ's workers, which import this file."""


def hyperqueue(tasks: int) -> dict:
    from hyperqueue import Job, LocalCluster
    from hyperqueue.cluster import WorkerConfig

    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=2))
        client = cluster.client()
        job = Job()
        for _ in range(tasks):
            job.program(["true"])
        begin = time.monotonic()
        submitted = client.submit(job)
        accepted = time.monotonic() - begin
        client.wait_for_jobs([submitted])
        done = time.monotonic() - begin
        return {"peer": "HyperQueue (spawns `true`)", "submits_per_s": tasks / accepted, "tasks_per_s": tasks / done}


def rq(tasks: int) -> dict:
    from redis import Redis
    from rq import Queue

    folder = pathlib.Path(tempfile.mkdtemp(prefix="loraq-bench-redis-"))
    socket = folder / "redis.sock"
    # Every command synced before it is answered, as loraq's submits are.
    server = subprocess.Popen(
        [
            *("redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", str(folder)),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
        ],
        stdout=subprocess.DEVNULL,
    )
    workers = []
    try:
        while not socket.exists():
            time.sleep(0.01)
        queue = Queue("bench", connection=Redis(unix_socket_path=str(socket)))
        begin = time.monotonic()
        for _ in range(tasks // 1000):
            queue.enqueue_many([Queue.prepare_data(nothing) for _ in range(1000)])
        accepted = time.monotonic() - begin
        program = shutil.which("rq", path=str(pathlib.Path(sys.executable).parent))
        assert program, "rq is not beside this interpreter"
        command = [program, "worker", "--burst", "--quiet", "--worker-class", "rq.SimpleWorker"]
        command += ["--url", f"unix://{socket}", "bench"]
        environment = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parent)}
        begin = time.monotonic()
        workers = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
        for worker in workers:
            worker.wait()
        assert queue.count == 0
        done = accepted + time.monotonic() - begin
        return {"peer": "RQ, Redis with appendfsync always", "submits_per_s": tasks / accepted, "tasks_per_s": tasks / done}
    finally:
        for worker in workers:
            worker.kill()
        server.kill()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=["hyperqueue", "rq"])
    parser.add_argument("--tasks", type=int, required=True)
    arguments = parser.parse_args()
    if arguments.peer == "rq":
        import peers  # the module that the workers import, not __main__

        print(json.dumps(peers.rq(arguments.tasks)))
    else:
        print(json.dumps(hyperqueue(arguments.tasks)))


if __name__ == "__main__":
    main()
