"""From rows to training examples: ids, and which of them are labels. The rules are those of docs/training.md."""

from __future__ import annotations

import bisect
import collections
import dataclasses
import os
import statistics
from typing import Any

from loraq.worker import Task, TaskError

from .rows import Completion, Conversation, RefusedRow, Text, lines, read
from .text import ModelText

IGNORED = -100
_BLANK = " \t\n\v\f\r"
_PROGRESS_ROWS = 256


@dataclasses.dataclass(frozen=True)
class Options:
    train_on: str
    completion_only: bool
    max_length: int
    #: Rows of the embedding.
    vocabulary: int


@dataclasses.dataclass
class Example:
    line: int
    tokens: list[int]
    #: By token: whether the loss counts it. The first one is never predicted.
    trained: list[bool]

    @property
    def labels(self) -> list[int]:
        return [token if counts else IGNORED for token, counts in zip(self.tokens, self.trained, strict=True)]

    @property
    def label_count(self) -> int:
        return sum(self.trained[1:])


@dataclasses.dataclass
class Dataset:
    rows: int
    examples: list[Example]
    #: Line, code, reason.
    refused: list[dict[str, Any]]
    warnings: list[str]
    duplicates: int

    @property
    def tokens(self) -> int:
        return sum(len(example.tokens) for example in self.examples)

    @property
    def labels(self) -> int:
        return sum(example.label_count for example in self.examples)

    def lengths(self) -> dict[str, Any] | None:
        """Tokens of the usable rows: quantiles, and rows by length in bins that end at powers of two from 8 on."""
        sizes = sorted(len(example.tokens) for example in self.examples)
        if not sizes:
            return None
        p95 = sizes[min(len(sizes) - 1, (95 * len(sizes) + 99) // 100 - 1)]
        bins: list[dict[str, int]] = []
        upto, below = 8, 0
        while below < len(sizes):
            end = bisect.bisect_right(sizes, upto)
            if bins or end > below:
                bins.append({"upto": upto, "rows": end - below})
            upto, below = upto * 2, end
        return {
            "min": sizes[0], "median": int(statistics.median_low(sizes)), "p95": p95, "max": sizes[-1], "histogram": bins,
        }  # fmt: skip

    def require_labels(self, path: str) -> None:
        if self.examples:
            return
        shown = "; ".join(f"line {row['line']}: {row['message']}" for row in self.refused[:3])
        what = f"none of its {self.rows} rows can be trained: {shown}" if self.rows else "holds no rows"
        raise TaskError("NO_LABELS", f"{path}: {what}")


def read_dataset(path: str, text: ModelText, options: Options, task: Task) -> Dataset:
    """Reads a file; rows that cannot be used are in `refused`, the others make examples."""
    data = Dataset(0, [], [], [], 0)
    unknown: collections.Counter[str] = collections.Counter()
    seen: set[tuple[int, ...]] = set()
    builder = Builder(text, options)
    done, total = 0, os.path.getsize(path)
    for number, line in lines(path):
        data.rows += 1
        done += len(line)
        if data.rows % _PROGRESS_ROWS == 0:
            task.check()
            task.report(done=done, total=total, unit="bytes", message="reading")
        try:
            row, extra = read(line)
            example = builder.example(row, number)
        except RefusedRow as refused:
            data.refused.append({"line": number, "code": refused.code, "message": refused.message})
            continue
        unknown.update(extra)
        key = tuple(example.tokens)
        data.duplicates += key in seen
        seen.add(key)
        data.examples.append(example)
    data.warnings += [f"key `{key}` of {count} rows is not used" for key, count in sorted(unknown.items())]
    if builder.without_end:
        data.warnings.append(f"after {builder.without_end} answers the template puts no end-of-turn token")
    return data


class Builder:
    def __init__(self, text: ModelText, options: Options) -> None:
        self.text, self.options = text, options
        self.without_end = 0

    def example(self, row: Conversation | Completion | Text, line: int) -> Example:
        """Raises `RefusedRow`."""
        if isinstance(row, Conversation):
            example = self._conversation(row, line)
        elif isinstance(row, Completion):
            start = len(row.prompt) if self.options.completion_only else 0
            example = self._plain(row.prompt + row.completion, start, line)
        else:
            example = self._plain(row.text, 0, line)
        if len(example.tokens) > self.options.max_length:
            what = f"has {len(example.tokens)} tokens, more than max_length {self.options.max_length}"
            raise RefusedRow("CONTEXT_LENGTH", what)
        if wrong := next((token for token in example.tokens if token >= self.options.vocabulary), None):
            raise RefusedRow("BAD_LINE", f"holds token {wrong}, but the model's embedding has {self.options.vocabulary} rows")
        if example.label_count == 0:
            raise RefusedRow("NO_LABELS", "has nothing to learn: no token of it is a label")
        return example

    def _plain(self, text: str, start: int, line: int) -> Example:
        """One text with the tokenizer's own special tokens, then the end token; labels from the token that reaches `start`."""
        ids, places = self.text.encode(text, special=True)
        begin = self.text.begin_of_text
        if begin is not None and ids[:2] == [begin, begin] and places[0][0] == places[0][1]:
            ids, places = ids[1:], places[1:]
        first = next((i for i, (low, high) in enumerate(places) if high > start and high > low), len(ids))
        if self.text.end_of_text is not None and ids[-1:] != [self.text.end_of_text]:
            ids = [*ids, self.text.end_of_text]
        first = 0 if start == 0 else first
        return Example(line, ids, [index >= first for index in range(len(ids))])

    def _conversation(self, row: Conversation, line: int) -> Example:
        if not self.text.has_template:
            what = "holds messages, but the model has no chat template; add one to the model or use prompt and completion"
            raise RefusedRow("NO_TEMPLATE", what)
        assistants = [index for index, message in enumerate(row.messages) if message["role"] == "assistant"]
        trained = [index for index in assistants if row.trained[index] and index >= row.first]
        if self.options.train_on == "last":
            trained = [index for index in assistants[-1:] if index in trained]
        is_all = self.options.train_on == "all"
        if not trained and not is_all:
            what = "no assistant message of it is to be trained (weight 0)" if assistants else "has no assistant message"
            raise RefusedRow("NO_LABELS", what)
        # With `all` only the answers that are not to be learned need to be found.
        wanted = [index for index in assistants if not row.trained[index]] if is_all else trained
        text = self._render(row.messages, row, prompt=False)
        answers = self._locate(text, row, assistants, wanted)
        ids, places = self.text.encode(text, special=False)
        marked = [False] * len(ids)
        for answer in answers:
            start, end = self._labels(answer, ids, places, text)
            marked[start:end] = [True] * (end - start)
        return Example(line, ids, [not mark for mark in marked] if is_all else marked)

    def _render(self, messages: list, row: Conversation, *, prompt: bool) -> str:
        try:
            return self.text.render(messages, row.tools, row.variables, prompt=prompt)
        except TaskError as error:
            raise RefusedRow("TEMPLATE", f"the chat template refuses it: {error.message}") from error

    def _locate(self, text: str, row: Conversation, assistants: list[int], wanted: list[int]) -> list[tuple[int, int]]:
        """Where answers stand in the text, in characters: by `{% generation %}`, by a mark in the answer's place, or by what
        stands before it."""
        spans = self.text.answer_marks(row.messages, row.tools, row.variables)
        if spans:
            if len(spans) != len(assistants):
                what = f"the template marks {len(spans)} spans with {{% generation %}} for {len(assistants)} assistant messages"
                raise RefusedRow("TEMPLATE", what)
            return [spans[assistants.index(index)] for index in wanted]
        found = []
        for index in wanted:
            place = self._by_mark(text, row, index) or self._by_prefix(text, row, index)
            if place is None:
                what = f"cannot tell where the answer messages[{index}] stands in what the chat template makes of it"
                raise RefusedRow("TEMPLATE", f"{what}; mark it with {{% generation %}} in the template")
            found.append(place)
        return found

    def _by_mark(self, text: str, row: Conversation, index: int) -> tuple[int, int] | None:
        mark = "zqanswermarkqz"
        while mark in text:
            mark += "qz"
        content = row.messages[index].get("content")
        if content is None:
            return None
        replaced = mark if isinstance(content, str) else [{"type": "text", "text": mark}]
        messages = [*row.messages[:index], row.messages[index] | {"content": replaced}, *row.messages[index + 1 :]]
        try:
            marked = self._render(messages, row, prompt=False)
        except RefusedRow:
            return None
        before, found, after = marked.partition(mark)
        fits = found and mark not in after and len(before) + len(after) <= len(text)
        if not fits or not text.startswith(before) or not text.endswith(after):
            return None
        return len(before), len(text) - len(after)

    def _by_prefix(self, text: str, row: Conversation, index: int) -> tuple[int, int] | None:
        if index == 0:
            return None
        try:
            before = self._render(row.messages[:index], row, prompt=True)
            through = self._render(row.messages[: index + 1], row, prompt=False)
        except RefusedRow:
            return None
        same = zip(through, text, strict=False)
        end = next((at for at, (a, b) in enumerate(same) if a != b), min(len(through), len(text)))
        if not text.startswith(before) or end < len(before) or len(through) - end > 16:
            return None
        return len(before), end

    def _labels(self, answer: tuple[int, int], ids: list[int], places: list, text: str) -> tuple[int, int]:
        """The tokens that reach into the answer, and the end-of-turn token after it with the white space between."""
        start = next((i for i, (low, high) in enumerate(places) if high > answer[0] and high > low), len(ids))
        end = start
        while end < len(ids) and places[end][0] < answer[1]:
            end += 1

        def is_blank(index: int) -> bool:
            return not text[places[index][0] : places[index][1]].strip(_BLANK)

        last = end
        while last > start and is_blank(last - 1):
            last -= 1
        if last > start and self._is_end(ids[last - 1]):
            return start, last
        after = end
        while after < len(ids):
            if self._is_end(ids[after]):
                return start, after + 1
            if not is_blank(after):
                break
            after += 1
        self.without_end += 1
        return start, end

    def _is_end(self, token: int) -> bool:
        return token in self.text.ends or token in self.text.special
