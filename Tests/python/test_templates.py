"""Chat templates from request and training data to tokens, and the two commands that people debug them with."""

import json
import pathlib
import shutil
import struct
import subprocess

import harness
import pytest
from harness import BIN, DEADLINE_S

import schemas

SEEDLING = harness.ROOT / "examples" / "seedling"
LONG_S = 4 * DEADLINE_S
TEMPLATE = (
    "{{ bos_token }}{% if strftime_now('%Y') == '2024' %}a year that is long gone by {% endif %}{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HELLO = [{"role": "user", "content": "Hello"}]


def render(path: pathlib.Path, *questions: dict, code: int = 0) -> list[dict]:
    lines = "".join(json.dumps(question) + "\n" for question in questions)
    command = [str(BIN / "lora-worker"), "render", "--template", str(path), "--jsonl"]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()] if code == 0 else [{"stderr": done.stderr}]


@pytest.fixture(scope="module")
def dated(tmp_path_factory):
    """The embedded model with a template that asks for the year, behind a broker."""
    folder = tmp_path_factory.mktemp("dated") / "model"
    shutil.copytree(SEEDLING / "model", folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": TEMPLATE}))
    with harness.running(harness.ROOT / "workers") as broker:
        client = broker.client(timeout=60)
        status = client.wait(client.submit("prepare", {"name": "dated", "path": str(folder)}), LONG_S)
        assert status["state"] == "succeeded", status
        yield broker, client


def gguf(path: pathlib.Path, **fields: str | list[str] | int) -> pathlib.Path:
    """A GGUF file (version 3) of metadata alone."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    def typed(value: str | list[str] | int) -> bytes:
        if isinstance(value, list):
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
        return struct.pack("<I", 8) + text(value) if isinstance(value, str) else struct.pack("<II", 4, value)

    pairs = b"".join(text(f"tokenizer.{key.replace('__', '.')}") + typed(value) for key, value in fields.items())
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(fields)) + pairs)
    return path


def test_a_template_is_found_in_a_gguf_a_folder_or_a_file(tmp_path):
    question = {"messages": HELLO, "add_generation_prompt": True, "now": "2024-03-05"}
    (folder,) = render(SEEDLING / "model", question)
    settings = json.loads((SEEDLING / "model" / "tokenizer_config.json").read_text())
    own = gguf(tmp_path / "own.gguf", chat_template=settings["chat_template"])
    assert render(own, question) == [folder] and "Hello" in folder["text"]
    file = tmp_path / "t.jinja"
    file.write_text("{{ bos_token }}[{{ messages[0].content }}]")
    assert render(file, question | {"special_tokens": {"bos_token": "<s>"}}) == [{"text": "<s>[Hello]"}]
    assert render(file, question) == [{"text": "[Hello]"}]
    named = gguf(
        tmp_path / "named.gguf",
        chat_template=file.read_text(),
        ggml__model="gpt2",
        ggml__tokens=["<b>", "a"],
        ggml__bos_token_id=0,
        ggml__merges=[],
    )
    assert render(named, question) == [{"text": "<b>[Hello]"}]
    file.write_text("one\ntwo {% if %}")
    assert "line 2, column" in render(file, question, code=1)[0]["stderr"]
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (empty, gguf(tmp_path / "bare.gguf", ggml__model="gpt2")):
        assert "no chat template" in render(path, question, code=64)[0]["stderr"]


def prompt_tokens(client, body: dict, **common) -> int:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "dated", "max_tokens": 1} | body}
    job = client.batch([line], **common)
    client.wait(job, LONG_S)
    (answer,) = client.results(job, stream="all")
    assert answer["error"] is None, answer
    return answer["response"]["body"]["usage"]["prompt_tokens"]


def test_the_time_in_a_prompt_is_the_jobs_own(dated):
    """KINDS 18: a retry on another day asks the same; a job's id, a UUIDv7, holds the time it was made."""
    _, client = dated
    now = prompt_tokens(client, {"messages": HELLO})
    then = prompt_tokens(client, {"messages": HELLO}, id="0193b5a0-0000-7000-8000-000000000001")
    assert then > now + 5


def test_a_request_cannot_say_otherwise_what_it_asks(dated):
    _, client = dated
    for name in ("messages", "tools", "add_generation_prompt"):
        body = {"model": "dated", "messages": HELLO, "chat_template_kwargs": {name: []}}
        job = client.batch([{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}])
        client.wait(job, LONG_S)
        (answer,) = client.results(job, stream="errors")
        assert answer["error"]["code"] == "BAD_LINE"
        assert f"chat_template_kwargs.{name}" in json.dumps(answer["error"])


def test_data_check_shows_every_token_with_its_mask(dated, tmp_path):
    """KINDS 1: rows, turns, labels and lengths are accounted for; what is shown is what is trained."""
    broker, client = dated
    file = tmp_path / "train.jsonl"
    rows = [
        {"messages": [*HELLO, {"role": "assistant", "content": "Hi you"}]},
        {"messages": [*HELLO, {"role": "assistant", "content": "x", "weight": 0}, *HELLO, {"role": "assistant", "content": "y"}]},
        {"text": "plain words"},
        {"messages": [{"role": "robot", "content": "x"}]},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = client.submit(
        "check", {"action": "data", "model": "dated", "rows": 2}, {"data": file}, id="0193b5a0-0000-7000-8000-00000000000a"
    )
    result = client.wait(job, LONG_S)["result"]
    schemas.check("result.check", result)
    assert result["rows"] == 4 and result["usable"] == 3 and [row["line"] for row in result["refused"]] == [4]
    assert result["forms"] == {"messages": 2, "text": 1}
    assert (result["turns"], result["trained_answers"], result["untrained_answers"]) == (6, 2, 1)
    assert sum(entry["rows"] for entry in result["lengths"]["histogram"]) == 3
    first = result["shown"][0]["spans"]
    text = "".join(span["text"] for span in first)
    asked = {"messages": rows[0]["messages"], "special_tokens": {"bos_token": "<|endoftext|>"}, "now": "2024-12-11"}
    template = tmp_path / "t.jinja"
    template.write_text(TEMPLATE)
    assert text == render(template, asked)[0]["text"]
    assert [span["text"] for span in first if span["trained"]] == ["Hi you<|im_end|>"]
    pieces = [piece for span in first for piece in span["pieces"]]
    assert "".join(piece["text"] for piece in pieces) == text
    assert len(pieces) == sum(span["tokens"] for span in first)
    assert [span["text"] for span in result["shown"][1]["spans"] if span["trained"]] == ["y<|im_end|>"]
    command = [
        str(BIN / "loraq"),
        "data",
        "check",
        str(file),
        "--model",
        "dated",
        "--rows",
        "1",
        "--tokens",
        "--home",
        str(broker.home),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=False)
    assert done.returncode == 5, done.stderr
    assert "2 messages, 1 text" in done.stdout and "6 messages: 2 answers trained, 1 not" in done.stdout
    assert sum(" + " in line for line in done.stdout.splitlines()) == sum(span["tokens"] for span in first if span["trained"])
