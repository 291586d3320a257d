"""From messages to text, from text to ids, and back."""

from __future__ import annotations

import pathlib
from typing import Any

from loraq.worker import TaskError
from tokenizers import Tokenizer
from transformers import AutoTokenizer


class ModelText:
    """Tokenizer and chat template of a model folder.

    `tokenizer.json` is followed as it stands, by the tokenizers library: transformers rebuilds some pipelines and then
    differs from the file. Only a folder without it is read by transformers.
    """

    def __init__(self, folder: pathlib.Path, network: Any) -> None:
        try:
            self._wide = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
        except (ValueError, KeyError, OSError, ImportError) as error:
            raise TaskError("NO_TOKENIZER", f"{folder}: transformers cannot load its tokenizer: {error}"[:2000]) from error
        file = folder / "tokenizer.json"
        self._exact = Tokenizer.from_file(str(file)) if file.exists() else None
        if self._exact is not None:
            self._exact.no_truncation()
            self._exact.no_padding()
        self.has_template = self._wide.chat_template is not None
        self.end_of_text: int | None = self._wide.eos_token_id
        self.begin_of_text: int | None = self._wide.bos_token_id
        #: Tokens that end an answer, by config, generation config and tokenizer together.
        self.ends = {self._wide.eos_token_id} - {None}
        for settings in (network.config, getattr(network.config, "text_config", None), network.generation_config):
            given = getattr(settings, "eos_token_id", None)
            self.ends |= set(given) if isinstance(given, list) else {given} - {None}
        special = set(self._wide.all_special_ids)
        if self._exact is not None:
            added = self._exact.get_added_tokens_decoder()
            special |= {index for index, token in added.items() if token.special}
        self.special = special

    def encode(self, text: str, *, special: bool) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and where each stands in the text, in characters; with `special` the tokenizer's own special tokens too."""
        if self._exact is not None:
            encoded = self._exact.encode(text, add_special_tokens=special)
            return encoded.ids, encoded.offsets
        encoded = self._wide(text, add_special_tokens=special, return_offsets_mapping=self._wide.is_fast)
        ids = encoded["input_ids"]
        if not self._wide.is_fast:
            raise TaskError("NO_TOKENIZER", "the model's tokenizer tells no offsets", hint="add a tokenizer.json to its folder")
        return ids, encoded["offset_mapping"]

    def decode(self, ids: list[int], *, skip_special: bool = True) -> str:
        if self._exact is not None:
            return self._exact.decode(ids, skip_special_tokens=skip_special)
        return self._wide.decode(ids, skip_special_tokens=skip_special, clean_up_tokenization_spaces=False)

    def render(self, messages: list, tools: list | None, variables: dict, *, prompt: bool) -> str:
        """A conversation as the model's template writes it; with `prompt` up to where the next answer begins.

        Raises `TaskError` `NO_TEMPLATE`, or `TEMPLATE` with what the template refuses.
        """
        if not self.has_template:
            hint = "give `prompt` instead of `messages`, or add chat_template.jinja to the model's folder and add it again"
            raise TaskError("NO_TEMPLATE", "the model has no chat template", hint=hint)
        try:
            return self._wide.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=prompt, **variables)
        except Exception as error:  # whatever a template raises
            raise TaskError("TEMPLATE", f"{type(error).__name__}: {error}"[:2000], param="body.messages") from error

    def answer_marks(self, messages: list, tools: list | None, variables: dict) -> list[tuple[int, int]]:
        """Where `{% generation %}` marks answers in the rendered text, in characters; empty if it never does."""
        template = self._wide.chat_template
        if not isinstance(template, str) or "generation %}" not in template.replace("-%}", " %}"):
            return []
        from transformers.utils.chat_template_utils import render_jinja_template

        special = {key: value for key, value in self._wide.special_tokens_map.items() if isinstance(value, str)}
        _, spans = render_jinja_template(
            [messages],
            tools=tools,
            chat_template=template,
            return_assistant_tokens_mask=True,
            add_generation_prompt=False,
            **special,
            **variables,
        )
        return [tuple(span) for span in spans[0]]
