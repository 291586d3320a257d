"""A worker that answers every task at once with an empty object, whole messages at a time: what is measured with it is the queue.

Started by `loraqd` for the manifest that run.py writes. Speaks LQP/1 by itself, without the client library's thread per task.
"""

import json
import os
import time

import zmq

#: Tasks that it has room for.
CREDIT = 2_000
RESULTS = 200


def main() -> None:
    context = zmq.Context()
    dispatch, results = context.socket(zmq.DEALER), context.socket(zmq.PUSH)
    dispatch.connect(os.environ["LORAQ_DISPATCH"])
    results.connect(os.environ["LORAQ_RESULTS"])

    def send(verb: str, header: dict, *bodies: bytes, socket: zmq.Socket = dispatch) -> None:
        socket.send_multipart([b"LQP/1", verb.encode(), json.dumps(header, separators=(",", ":")).encode(), *bodies])

    hello = {"instance": os.environ["LORAQ_INSTANCE"], "plugin": os.environ["LORAQ_PLUGIN"], "plugin_version": "1"}
    hello["pid"] = os.getpid()
    send("HELLO", hello | {"kinds": ["noop", "idle"], "numerics": "none", "holding": []})
    session, beat, taken, sequence = "", 1.0, 0, 0
    next_beat = time.monotonic() + beat
    held: dict[tuple[str, int], dict] = {}
    while True:
        if dispatch.poll(max(0, int((next_beat - time.monotonic()) * 1000))):
            frames = dispatch.recv_multipart()
            verb, header = frames[1], json.loads(frames[2])
            if verb == b"WELCOME":
                session, beat = header["session"], header["heartbeat_ms"] / 1000
                taken = 0
                send("CREDIT", {"session": session, "classes": {"slot": CREDIT}})
            elif verb == b"TASK":
                tasks = header["tasks"]
                taken += len(tasks)
                for begin in range(0, len(tasks), RESULTS):
                    part = tasks[begin : begin + RESULTS]
                    sequence += 1
                    answers, bodies, names = [], [], []
                    for index, task in enumerate(part):
                        key = {"task": task["task"], "attempt": task["attempt"], "lease": task["lease"]}
                        held[task["task"], task["attempt"]] = key
                        answers.append(key | {"outcome": "ok", "body": index})
                        custom = task.get("custom_id")
                        bodies.append(b'{"custom_id":"%s"}' % custom.encode() if custom else b"{}")
                        names.append({"name": "result", "bytes": len(bodies[-1])})
                    header = {"session": session, "seq": sequence, "results": answers, "bodies": names}
                    send("RESULT", header, *bodies, socket=results)
            elif verb == b"RESULT_ACK":
                for item in header["results"]:
                    held.pop((item["task"], item["attempt"]), None)
                # Room for as many as were taken: the totals are since HELLO.
                send("CREDIT", {"session": session, "classes": {"slot": taken - len(held) + CREDIT}})
            elif verb == b"DRAIN":
                send("BYE", {"session": session})
                return
            elif verb == b"ERROR" and header["error"]["code"] == "UNKNOWN_SESSION":
                session, taken = "", 0
                held.clear()
                send("HELLO", hello | {"kinds": ["noop", "idle"], "numerics": "none", "holding": []})
        if session and time.monotonic() >= next_beat:
            next_beat = time.monotonic() + beat
            some = [key | {"progress": 1} for key in list(held.values())[:256]]
            send("BEAT", {"session": session, "held": some, "rss_bytes": 0})


if __name__ == "__main__":
    main()
