"""The `body` of an OpenAI batch line, checked field by field, as the native worker checks it."""

from __future__ import annotations

import dataclasses
from typing import Any

from loraq.worker import TaskError

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
_COMMON = {
    "model", "max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
    "frequency_penalty", "seed", "stop", "n", "logprobs", "logit_bias", "user", "stream",
}  # fmt: skip
_CHAT_ONLY = {"messages", "tools", "chat_template_kwargs", "max_completion_tokens", "top_logprobs"}
_COMPLETIONS_ONLY = {"prompt", "echo"}


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How a token is chosen; applied in this order: penalties, biases, temperature, top-k, top-p, min-p."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: dict[int, float]


@dataclasses.dataclass(frozen=True)
class Body:
    is_chat: bool
    messages: list | None
    tools: list | None
    variables: dict
    #: Text, or token ids.
    prompt: str | list[int] | None
    sampling: Sampling
    seed: int | None
    max_tokens: int | None
    stops: list[str]
    choices: int
    logprobs: int | None
    echo: bool


def _fault(key: str, message: str) -> TaskError:
    return TaskError("BAD_LINE", f"body.{key} {message}", param=f"body.{key}")


class _Fields:
    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body

    def get(self, key: str) -> Any:
        return self.body.get(key)

    def number(self, key: str, low: float, high: float, default: float) -> float:
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise _fault(key, f"must be a number from {low} to {high}")
        return float(value)

    def whole(self, key: str, low: int, high: int) -> int | None:
        value = self.get(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _fault(key, f"must be a whole number from {low} to {high}")
        return value

    def flag(self, key: str) -> bool:
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            raise _fault(key, "must be true or false")
        return bool(value)


def read(line: Any) -> Body:
    """Reads a request line. Raises `TaskError` that names the field."""
    url = line.get("url") if isinstance(line, dict) else None
    if url not in (CHAT, COMPLETIONS):
        raise TaskError("BAD_LINE", "url is not an endpoint that is served here", param="url")
    body = line.get("body")
    if not isinstance(body, dict):
        raise TaskError("BAD_LINE", "body must be an object", param="body")
    is_chat = url == CHAT
    for key in body:
        if key not in _COMMON | (_CHAT_ONLY if is_chat else _COMPLETIONS_ONLY):
            elsewhere = key in (_COMPLETIONS_ONLY if is_chat else _CHAT_ONLY)
            raise _fault(key, f"is no field of {url}" if elsewhere else "is not understood here")
    fields = _Fields(body)
    if body.get("stream"):
        raise _fault("stream", "is true, but a batch line has no stream; leave it out")
    messages, tools, variables = _conversation(fields) if is_chat else (None, None, {})
    return Body(
        is_chat=is_chat,
        messages=messages,
        tools=tools,
        variables=variables,
        prompt=None if is_chat else _prompt(fields),
        sampling=_sampling(fields),
        seed=fields.whole("seed", -(1 << 63), (1 << 63) - 1),
        max_tokens=_max_tokens(fields),
        stops=_stops(fields),
        choices=fields.whole("n", 1, 128) or 1,
        logprobs=_logprobs(fields, is_chat),
        echo=fields.flag("echo"),
    )


def _conversation(fields: _Fields) -> tuple[list, list | None, dict]:
    messages, tools = fields.get("messages"), fields.get("tools")
    variables = fields.get("chat_template_kwargs") or {}
    if not isinstance(messages, list) or not messages:
        raise _fault("messages", "must be a list of at least one message")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise _fault(f"messages[{index}].role", "must be a string")
        if not isinstance(message.get("content"), str | list) and not message.get("tool_calls"):
            raise _fault(f"messages[{index}].content", "must be a string or a list of parts")
    if tools is not None and not isinstance(tools, list):
        raise _fault("tools", "must be a list")
    if not isinstance(variables, dict):
        raise _fault("chat_template_kwargs", "must be an object")
    return messages, tools, variables


def _prompt(fields: _Fields) -> str | list[int]:
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, list) or not prompt or not all(type(token) is int and token >= 0 for token in prompt):
        raise _fault("prompt", "must be one string or a list of token ids; give each prompt its own line")
    return prompt


def _sampling(fields: _Fields) -> Sampling:
    bias = fields.get("logit_bias") or {}
    if not isinstance(bias, dict) or len(bias) > 1024:
        raise _fault("logit_bias", "must be an object of at most 1024 token ids")
    biases: dict[int, float] = {}
    for key, value in bias.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and -100 <= value <= 100
        if not key.isdecimal() or not is_number:
            raise _fault(f"logit_bias.{key}", "must be a number from -100 to 100, by token id")
        biases[int(key)] = float(value)
    return Sampling(
        temperature=fields.number("temperature", 0, 100, 1),
        top_p=fields.number("top_p", 0, 1, 1),
        top_k=max(0, fields.whole("top_k", -1, 1 << 30) or 0),
        min_p=fields.number("min_p", 0, 1, 0),
        repetition_penalty=fields.number("repetition_penalty", 0.01, 100, 1),
        presence_penalty=fields.number("presence_penalty", -2, 2, 0),
        frequency_penalty=fields.number("frequency_penalty", -2, 2, 0),
        logit_bias=biases,
    )


def _max_tokens(fields: _Fields) -> int | None:
    old, new = fields.whole("max_tokens", 0, 1 << 24), fields.whole("max_completion_tokens", 0, 1 << 24)
    if old is not None and new is not None and old != new:
        raise _fault("max_completion_tokens", "differs from max_tokens; give one of them")
    return old if new is None else new


def _stops(fields: _Fields) -> list[str]:
    value = fields.get("stop")
    stops = [value] if isinstance(value, str) else (value if value is not None else [])
    if not isinstance(stops, list) or len(stops) > 16:
        raise _fault("stop", "must be a string or a list of at most 16")
    if not all(isinstance(stop, str) and stop for stop in stops):
        raise _fault("stop", "must hold strings that are not empty")
    return stops


def _logprobs(fields: _Fields, is_chat: bool) -> int | None:
    if not is_chat:
        return fields.whole("logprobs", 0, 20)
    top = fields.whole("top_logprobs", 0, 20)
    if not fields.flag("logprobs"):
        if top is not None:
            raise _fault("top_logprobs", "needs logprobs: true")
        return None
    return top or 0
