"""Rows of a data file: chat `messages`, `prompt`/`completion`, `text`, Alpaca, ShareGPT; as docs/training.md has them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

_FORMS = "messages; prompt and completion; text; instruction and output (Alpaca); conversations (ShareGPT)"
_ROLES = ("system", "developer", "user", "assistant", "tool")
_KEYS = {
    "role", "content", "weight", "name", "tool_calls", "tool_call_id", "reasoning_content", "thinking", "reasoning",
}  # fmt: skip
_SHAREGPT = {
    "system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
    "chatgpt": "assistant", "tool": "tool", "observation": "tool",
}  # fmt: skip
_LINE_BYTES = 64 << 20


class RefusedRow(Exception):
    """A row that cannot be trained on, and why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclasses.dataclass
class Conversation:
    messages: list[dict[str, Any]]
    #: By message: whether its `weight` lets it be learned.
    trained: list[bool]
    tools: list | None
    variables: dict
    #: Messages before it are the prompt and never labelled.
    first: int = 0


@dataclasses.dataclass
class Completion:
    prompt: str
    completion: str


@dataclasses.dataclass
class Text:
    text: str


Row = Conversation | Completion | Text


def lines(path: str) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, with their numbers from 1."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line


def read(line: bytes) -> tuple[Row, list[str]]:
    """A row, and the keys in it that no form has. Raises `RefusedRow`."""
    if len(line) > _LINE_BYTES:
        raise RefusedRow("BAD_LINE", f"has {len(line)} bytes, more than {_LINE_BYTES}")
    try:
        row = json.loads(line)
    except ValueError as error:
        raise RefusedRow("BAD_LINE", f"is no JSON: {error}") from None
    if not isinstance(row, dict):
        raise RefusedRow("BAD_LINE", "is not an object")
    found = [key for key in ("messages", "completion", "text", "instruction", "conversations") if row.get(key) is not None]
    if len(found) != 1:
        what = f"has {' and '.join(found)} at once; one form must be left" if found else f"has none of the known forms ({_FORMS})"
        raise RefusedRow("BAD_LINE", what)
    known = {"tools", "chat_template_kwargs"}
    result: Row
    match found[0]:
        case "messages":
            known |= {"messages"}
            result = _conversation(row, row["messages"])
        case "completion":
            known |= {"prompt", "completion"}
            result = _completion(row)
        case "text":
            known = {"text"}
            result = Text(_string(row, "text"))
        case "instruction":
            known |= {"instruction", "input", "output", "system", "history"}
            result = _conversation(row, _alpaca(row))
        case _:
            known |= {"conversations", "system"}
            result = _conversation(row, _sharegpt(row))
    return result, [key for key in row if key not in known]


def _string(row: dict, key: str) -> str:
    if not isinstance(row.get(key), str):
        raise RefusedRow("BAD_LINE", f"{key} is missing or no string")
    return row[key]


def _completion(row: dict) -> Row:
    prompt, completion = row.get("prompt"), row.get("completion")
    if isinstance(prompt, str) and isinstance(completion, str):
        return Completion(prompt, completion)
    if isinstance(prompt, list) and isinstance(completion, list) and prompt and completion:
        return _conversation(row, prompt + completion, len(prompt))
    raise RefusedRow("BAD_LINE", "prompt and completion must both be strings, or both lists of messages that are not empty")


def _conversation(row: dict, items: Any, first: int = 0) -> Conversation:
    if not isinstance(items, list) or not items:
        raise RefusedRow("BAD_LINE", "messages must be a list of at least one message")
    read_items = [_message(item, f"messages[{index}]") for index, item in enumerate(items)]
    tools, variables = row.get("tools"), row.get("chat_template_kwargs")
    if tools is not None and not isinstance(tools, list):
        raise RefusedRow("BAD_LINE", "tools is not a list")
    if variables is not None and not isinstance(variables, dict):
        raise RefusedRow("BAD_LINE", "chat_template_kwargs is not an object")
    return Conversation([m for m, _ in read_items], [t for _, t in read_items], tools, variables or {}, first)


def _message(item: Any, place: str) -> tuple[dict[str, Any], bool]:
    if not isinstance(item, dict):
        raise RefusedRow("BAD_LINE", f"{place} is not an object")
    role = item.get("role")
    if role not in _ROLES:
        raise RefusedRow("BAD_LINE", f"{place}.role must be one of {', '.join(_ROLES)}")
    if unknown := next((key for key in item if key not in _KEYS), None):
        raise RefusedRow("BAD_LINE", f"{place}.{unknown[:40]} is not a known member")
    weight = item.get("weight")
    if weight not in (None, 0, 1):
        raise RefusedRow("BAD_LINE", f"{place}.weight is {weight}; it may be 0 or 1")
    if weight == 1 and role != "assistant":
        raise RefusedRow("BAD_LINE", f"{place}.weight is 1, but only assistant messages are trained")
    content = item.get("content")
    if isinstance(content, list):
        for index, part in enumerate(content):
            if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
                raise RefusedRow("BAD_LINE", f"{place}.content[{index}] is not a text part; only text is trained")
    elif content is None:
        if role != "assistant" or not item.get("tool_calls"):
            raise RefusedRow("BAD_LINE", f"{place}.content is missing")
    elif not isinstance(content, str):
        raise RefusedRow("BAD_LINE", f"{place}.content is not a string")
    return {key: value for key, value in item.items() if key != "weight"}, weight != 0


def _alpaca(row: dict) -> list[dict[str, Any]]:
    instruction, output = _string(row, "instruction"), _string(row, "output")
    messages = [{"role": "system", "content": _string(row, "system")}] if row.get("system") else []
    for turn in row.get("history") or []:
        if not isinstance(turn, list) or len(turn) != 2 or not all(isinstance(text, str) for text in turn):
            raise RefusedRow("BAD_LINE", "history is not a list of pairs of strings")
        messages += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]
    extra = _string(row, "input") if row.get("input") is not None else ""
    question = f"{instruction}\n\n{extra}" if extra else instruction
    return [*messages, {"role": "user", "content": question}, {"role": "assistant", "content": output}]


def _sharegpt(row: dict) -> list[Any]:
    turns = row["conversations"]
    if not isinstance(turns, list):
        raise RefusedRow("BAD_LINE", "conversations is not a list")
    messages: list[Any] = [{"role": "system", "content": _string(row, "system")}] if row.get("system") is not None else []
    for index, turn in enumerate(turns):
        place = f"conversations[{index}]"
        if not isinstance(turn, dict):
            raise RefusedRow("BAD_LINE", f"{place} is not an object")
        if "from" not in turn:
            messages.append(turn)
            continue
        if unknown := next((key for key in turn if key not in ("from", "value", "weight")), None):
            raise RefusedRow("BAD_LINE", f"{place}.{unknown[:40]} is not a known member")
        if turn["from"] not in _SHAREGPT:
            raise RefusedRow("BAD_LINE", f"{place}.from must be one of {', '.join(sorted(_SHAREGPT))}")
        message = {"role": _SHAREGPT[turn["from"]], "content": turn.get("value")}
        messages.append(message | ({"weight": turn["weight"]} if "weight" in turn else {}))
    return messages
