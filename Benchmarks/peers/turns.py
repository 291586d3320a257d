"""A peer takes turns: it warms up, says that it is ready, and then runs one round of all its works per line on standard input.

Works are named as `lora-worker measure --work` names them: train:ROWSxLENGTH, prefill:LENGTH,
decode:STREAMSxPROMPT+TOKENS[/ADAPTERS].
Standard output carries one JSON object a line and nothing else: what libraries print there goes to standard error.
"""

import argparse
import dataclasses
import json
import os
import random
import re
import sys
from collections.abc import Callable

FORMS = {
    "train": re.compile(r"train:(\d+)x(\d+)"),
    "prefill": re.compile(r"prefill:(\d+)"),
    "decode": re.compile(r"decode:(\d+)x(\d+)\+(\d+)(?:/(\d+))?"),
}


@dataclasses.dataclass(frozen=True)
class Work:
    name: str
    kind: str
    numbers: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens that one round counts."""
        if self.kind == "decode":
            return self.numbers[0] * self.numbers[2]
        return self.numbers[0] * (self.numbers[1] if self.kind == "train" else 1)

    @property
    def adapters(self) -> int:
        return self.numbers[3] if self.kind == "decode" else int(self.kind == "train")


def work_of(text: str) -> Work:
    for kind, form in FORMS.items():
        if match := form.fullmatch(text):
            return Work(text, kind, tuple(int(number or 0) for number in match.groups()))
    raise argparse.ArgumentTypeError(f"there is no work named {text}")


def options(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder or file of the model")
    parser.add_argument("--work", nargs="+", type=work_of, required=True)
    parser.add_argument("--adapters", nargs="*", default=[], help="PEFT folders")
    parser.add_argument("--threads", type=int, default=2)
    return parser


class Prompts:
    """Random prompts, other ones each time, so that no prefix cache helps."""

    def __init__(self, vocabulary: int) -> None:
        # The first ids are special tokens in many vocabularies.
        self.draw, self.vocabulary = random.Random(1), vocabulary

    def one(self, length: int) -> list[int]:
        return [self.draw.randrange(100, self.vocabulary - 300) for _ in range(length)]

    def many(self, count: int, length: int) -> list[list[int]]:
        return [self.one(length) for _ in range(count)]


def quiet_output() -> int:
    """Standard output becomes standard error; what was it comes back as a descriptor."""
    kept = os.dup(1)
    os.dup2(2, 1)
    return kept


def serve(kept: int, about: dict, works: list[Work], run: Callable[[Work], float], warm: int = 1) -> None:
    """`run` gives the seconds of one round."""

    def say(message: dict) -> None:
        os.write(kept, (json.dumps(message) + "\n").encode())

    for work in works:
        for _ in range(warm):
            run(work)
    say({"ready": True, **about})
    for _ in sys.stdin:
        for work in works:
            say({"work": work.name, "tokens": work.tokens, "seconds": run(work)})
