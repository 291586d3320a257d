"""`infer`: a request line becomes an answer, token by token."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import time
from typing import Any

import torch
from loraq.worker import Stopped, Task, TaskError

from .base import BaseModel, Shelf, adapter_of
from .body import Body, Sampling, read


@dataclasses.dataclass
class Score:
    """The log probability of a token by the model's own logits; None for a prompt's first token, which nothing predicts."""

    token: int
    logprob: float | None
    top: list[tuple[int, float]]


@dataclasses.dataclass
class Choice:
    tokens: list[int]
    text: str
    finish: str
    scores: list[Score]


def infer(task: Task, shelf: Shelf, numerics: str) -> dict[str, Any]:
    """Answers one line. Raises `TaskError` for a line that cannot be answered."""
    body = read(task.request)
    model, artifact = shelf.model(task)
    adapter = adapter_of(task, artifact)
    prompt_text, prompt = prompt_of(body, model)
    limit = body.max_tokens if body.max_tokens is not None else (1 << 30 if body.is_chat else 16)
    room = model.positions - (0 if limit == 0 else 1)
    if len(prompt) > room:
        message = f"the prompt has {len(prompt)} tokens; prompt and answer have {model.positions} positions"
        raise TaskError("CONTEXT_LENGTH", message)
    limit = min(limit, model.positions - len(prompt))
    seed = default_seed(task) if body.seed is None else body.seed
    with model.serving(adapter) as network, torch.inference_mode():
        run = _Run(task, body, model, network, prompt, limit)
        prompt_scores, choices = run.answer(seed)
    named = adapter or artifact
    usage = {
        "prompt_tokens": len(prompt),
        "completion_tokens": sum(len(choice.tokens) for choice in choices),
    }
    usage["total_tokens"] = sum(usage.values())
    task.usage = dict(usage)
    response = task.response(
        {
            "id": task.id,
            "object": "chat.completion" if body.is_chat else "text_completion",
            "created": int(time.time()),
            "model": f"{named['name']}@{named['version']}",
            "choices": [_choice(index, choice, body, model, prompt_text, prompt_scores) for index, choice in enumerate(choices)],
            "usage": usage,
            "system_fingerprint": numerics,
            "seed": seed,
        }
    )
    if any(choice.finish == "cancelled" for choice in choices):
        raise Stopped("cancelled", response)
    return response


def default_seed(task: Task) -> int:
    """The seed of a line that names none: the same for the same job and id, on any worker."""
    text = f"{task.envelope['job']}\n{task.custom_id or task.id}"
    return int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) >> 11


def prompt_of(body: Body, model: BaseModel) -> tuple[str, list[int]]:
    """A request's prompt as text and as ids."""
    if body.messages is not None:
        text = model.text.render(body.messages, body.tools, body.variables, prompt=True)
        ids = model.text.encode(text, special=False)[0]  # the template writes the special tokens itself
    elif isinstance(body.prompt, str):
        text, ids = body.prompt, model.text.encode(body.prompt, special=True)[0]
    else:
        ids = list(body.prompt or [])
        text = ""
    wrong = next((token for token in ids if token >= model.rows), None)
    if wrong is not None:
        raise TaskError("BAD_LINE", f"the model has no token {wrong}; its ids end at {model.rows - 1}", param="body.prompt")
    if not ids:
        raise TaskError("EMPTY_PROMPT", "the prompt has no token")
    return text or model.text.decode(ids, skip_special=False), ids


class _Run:
    """One request through the network: the prompt once, then each choice on its own copy of the cache."""

    def __init__(self, task: Task, body: Body, model: BaseModel, network: torch.nn.Module, prompt: list[int], limit: int) -> None:
        self.task, self.body, self.model, self.network = task, body, model, network
        self.prompt, self.limit = prompt, limit

    def answer(self, seed: int) -> tuple[list[Score], list[Choice]]:
        scored = self.body.echo and self.body.logprobs is not None
        # Of a long prompt only the last row of logits is wanted, where the architecture can leave the others out.
        only_last = {"logits_to_keep": 1} if not scored and self.model.keeps_logits else {}
        ids = torch.tensor([self.prompt], device=self.model.device)
        out = self.network(input_ids=ids, use_cache=self.model.cache_name is not None, **only_last)
        logits = out.logits[0].float()
        scores: list[Score] = []
        if scored:
            table = torch.log_softmax(logits, -1)
            scores = [Score(self.prompt[0], None, [])]
            scores += [self._score(table[place], token) for place, token in enumerate(self.prompt[1:])]
        self.task.advance(len(self.prompt))
        choices = []
        for index in range(self.body.choices):
            is_last = index + 1 == self.body.choices
            cache = getattr(out, self.model.cache_name) if self.model.cache_name else None
            cache = cache if is_last else copy.deepcopy(cache)
            random = torch.Generator().manual_seed((seed + index * 0x9E3779B97F4A7C15) & (1 << 63) - 1)
            choices.append(self._choice(index, logits[-1], cache, random))
        return scores, choices

    def _score(self, row: torch.Tensor, token: int) -> Score:
        top = []
        if self.body.logprobs:
            best = torch.sort(row, descending=True, stable=True)
            top = list(zip(best.indices[: self.body.logprobs].tolist(), best.values[: self.body.logprobs].tolist(), strict=True))
        return Score(token, float(row[token]), top)

    def _choice(self, index: int, logits: torch.Tensor, cache: Any, random: torch.Generator) -> Choice:
        tokens: list[int] = []
        scores: list[Score] = []
        text, shown = "", 0
        finish = "length"
        while len(tokens) < self.limit:
            try:
                self.task.check()
            except Stopped as stopped:
                if stopped.reason == "cancelled" and tokens:
                    finish = "cancelled"
                    break
                raise
            if not torch.isfinite(logits).all():
                raise TaskError("NOT_FINITE", "the model's logits are not finite", retryable=True)
            token = choose(logits, self.body.sampling, self.prompt, tokens, random)
            if self.body.logprobs is not None:
                scores.append(self._score(torch.log_softmax(logits, -1), token))
            tokens.append(token)
            self.task.advance()
            if token in self.model.text.ends:
                finish = "stop"
                break
            text = self.model.text.decode(tokens)
            if (cut := first_stop(text, self.body.stops)) is not None:
                text, finish = text[:cut], "stop"
                break
            shown = self._stream(index, len(tokens), text, shown)
            if len(tokens) < self.limit:
                logits = self._next_logits(tokens, cache)
        if len(text) > shown:
            self.task.chunk(text[shown:], max(0, len(tokens) - 1), index)
        return Choice(tokens, text, finish, scores)

    def _next_logits(self, tokens: list[int], cache: Any) -> torch.Tensor:
        """The logits `[V]` after an answer's newest token; the cache holds what stands before it, and is gone on with."""
        name = self.model.cache_name
        ids = self.prompt + tokens if name is None else tokens[-1:]
        state = {"use_cache": False} if name is None else {name: cache, "use_cache": True}
        return self.network(input_ids=torch.tensor([ids], device=self.model.device), **state).logits[0, -1].float()

    def _stream(self, index: int, count: int, text: str, shown: int) -> int:
        """Sends what is certain of the text: no half character, nothing that may become a stop string."""
        held = max((len(stop) - 1 for stop in self.body.stops), default=0)
        end = len(text) - held
        if text.endswith("\ufffd") or end <= shown:
            return shown
        self.task.chunk(text[shown:end], count - 1, index)
        return end


def first_stop(text: str, stops: list[str]) -> int | None:
    """Where the stop string begins that is complete first; the longest of those that end together."""
    found = [(place + len(stop), place) for stop in stops if (place := text.find(stop)) >= 0]
    return min(found)[1] if found else None


def choose(logits: torch.Tensor, sampling: Sampling, prompt: list[int], answer: list[int], random: torch.Generator) -> int:
    """The next token from the logits `[V]`; temperature 0 takes the likeliest, the lowest id among equals."""
    row = logits.cpu().clone()
    if sampling.repetition_penalty != 1:
        seen = torch.tensor(sorted(set(prompt) | set(answer)))
        values = row[seen]
        row[seen] = torch.where(values < 0, values * sampling.repetition_penalty, values / sampling.repetition_penalty)
    if sampling.presence_penalty or sampling.frequency_penalty:
        for token in set(answer):
            row[token] -= sampling.presence_penalty + sampling.frequency_penalty * answer.count(token)
    for token, bias in sampling.logit_bias.items():
        if token < len(row):
            row[token] += bias
    if sampling.temperature == 0:
        return int((row == row.max()).nonzero()[0])
    order = torch.sort(torch.softmax(row.double() / sampling.temperature, -1), descending=True, stable=True)
    probabilities, ids = order.values, order.indices
    if sampling.top_k:
        probabilities = probabilities[: sampling.top_k]
    if sampling.top_p < 1:
        before = torch.cumsum(probabilities, 0) - probabilities
        kept = max(1, int((before < sampling.top_p * probabilities.sum()).sum()))
        probabilities = probabilities[:kept]
    if sampling.min_p:
        probabilities = probabilities[probabilities >= probabilities[0] * sampling.min_p]
    return int(ids[torch.multinomial(probabilities, 1, generator=random)])


def _choice(
    index: int, choice: Choice, body: Body, model: BaseModel, prompt_text: str, prompt_scores: list[Score]
) -> dict[str, Any]:
    result: dict[str, Any] = {"index": index}
    if body.is_chat:
        result["message"] = {"role": "assistant", "content": choice.text}
    else:
        result["text"] = prompt_text + choice.text if body.echo else choice.text
    result["logprobs"] = None
    if body.logprobs is not None:
        scores = prompt_scores + choice.scores
        result["logprobs"] = _chat_logprobs(scores, model) if body.is_chat else _completion_logprobs(scores, model)
    return result | {"finish_reason": choice.finish}


def _chat_logprobs(scores: list[Score], model: BaseModel) -> dict[str, Any]:
    def described(token: int, logprob: float | None) -> dict[str, Any]:
        text = model.text.decode([token], skip_special=False)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    return {"content": [described(s.token, s.logprob) | {"top_logprobs": [described(t, p) for t, p in s.top]} for s in scores]}


def _completion_logprobs(scores: list[Score], model: BaseModel) -> dict[str, Any]:
    texts = [model.text.decode([score.token], skip_special=False) for score in scores]
    tops: list[dict[str, float] | None] = []
    for score in scores:
        members: dict[str, float] = {}
        for token, logprob in score.top:  # several tokens may have one text; the likeliest stands for it
            members.setdefault(model.text.decode([token], skip_special=False), logprob)
        tops.append(None if score.logprob is None else members)
    return {
        "tokens": texts,
        "token_logprobs": [score.logprob for score in scores],
        "top_logprobs": tops,
        "text_offset": [sum(map(len, texts[:place])) for place in range(len(texts))],
    }
