"""Adapters go both ways: trained here and served there, trained there and served here."""

import json
import os
import signal

import harness
import pytest
from conftest import ROOT
from test_infer import compare_scores, completion, lines_of

import schemas

TASK = ROOT / "examples/seedling/tasks/iso-date"
RECIPE = {
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj", "v_proj", "down_proj"],
    "learning_rate": 5e-4,
    "max_steps": 12,
    "per_device_train_batch_size": 4,
    "seed": 7,
}


def head(path, count):
    return b"".join(line + b"\n" for line in path.read_bytes().splitlines()[:count])


@pytest.fixture(scope="session")
def trained(broker):
    """The same fine-tune by both workers; the adapters `tiny:by-lora` and `tiny:by-peft`, and the results."""
    client = broker.client(timeout=120)
    results = {}
    for worker in ("lora", "peft"):
        name = f"by-{worker}"
        train, held_out = head(TASK / "train.jsonl", 48), head(TASK / "eval.jsonl", 8)
        job = client.finetune("tiny", train, name, eval=held_out, recipe=RECIPE, worker=worker)
        ended = client.wait(job)
        assert ended["state"] == "succeeded", ended
        schemas.check("result.finetune", ended["result"])
        results[worker] = ended["result"]
    return results


def chat_lines():
    rows = [json.loads(line) for line in (TASK / "eval.jsonl").read_text().splitlines()[:6]]
    for number, row in enumerate(rows):
        body = {"messages": row["messages"][:-1], "temperature": 0, "max_tokens": 16, "logprobs": True, "top_logprobs": 3}
        yield {"custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


def test_both_train_on_the_same_rows_labels_and_order(trained):
    native, peft = trained["lora"], trained["peft"]
    for key in ("rows", "trained_rows", "tokens", "label_tokens", "steps", "trainable_parameters", "targets", "learning_rate"):
        assert native[key] == peft[key], key
    # Before the first update an adapter does nothing, so the losses are those of the base.
    assert peft["first_loss"] == pytest.approx(native["first_loss"], abs=1e-4)
    assert peft["eval_loss_before"] == pytest.approx(native["eval_loss_before"], abs=1e-4)
    assert peft["eval_loss_after"] < peft["eval_loss_before"]
    for key in ("last_loss", "eval_loss_after"):
        assert peft[key] == pytest.approx(native[key], rel=0.1), key


@pytest.mark.parametrize("adapter", ["by-lora", "by-peft"])
def test_an_adapter_answers_alike_on_both_workers(client, trained, adapter):
    lines = list(chat_lines())
    jobs = [client.batch(lines, model=f"tiny:{adapter}", worker=worker) for worker in ("lora", "peft")]
    for job in jobs:
        assert client.wait(job)["state"] == "succeeded"
    native, peft = (lines_of(client, job) for job in jobs)
    for line in lines:
        a, b = (answers[line["custom_id"]]["response"]["body"] for answers in (native, peft))
        assert a["model"] == b["model"] == f"tiny:{adapter}@1"
        assert a["choices"][0]["message"] == b["choices"][0]["message"]
        compare_scores(a["choices"][0]["logprobs"], b["choices"][0]["logprobs"])


LOAD = """
import json, sys, torch
from peft import PeftModel
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM
base, adapter, prompts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
tokenizer = Tokenizer.from_file(base + "/tokenizer.json")
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter).eval()
found = []
for prompt in prompts:
    ids = tokenizer.encode(prompt).ids
    with torch.inference_mode():
        table = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)
        out = model.generate(input_ids=torch.tensor([ids]), do_sample=False, max_new_tokens=12)[0].tolist()
    scores = [None] + [float(table[place, token]) for place, token in enumerate(ids[1:])]
    found.append({"scores": scores, "text": tokenizer.decode(out[len(ids):])})
print(json.dumps(found))
"""


def test_an_adapter_trained_here_loads_with_peft_and_gives_the_same_logits_and_answers(client, trained, in_torch, tmp_path):
    """The adapter as `adapters export` writes it, by `PeftModel.from_pretrained` alone."""
    folder = tmp_path / "exported"
    folder.mkdir()
    for file in client.request("GET", {"artifact": "tiny:by-lora"}).header["files"]:
        piece = client.request("GET", {"artifact": "tiny:by-lora", "file": file["name"]}).body("piece")
        (folder / file["name"]).write_bytes(piece)
    prompts = ["Write the date", "The ticket says", "one two three four", "2021-05-03"]
    lines = [completion(f"p{n}", prompt, logprobs=1, echo=True) for n, prompt in enumerate(prompts)]
    job = client.batch(lines, model="tiny:by-lora", worker="lora")
    client.wait(job)
    ours = lines_of(client, job)
    theirs = json.loads(in_torch(LOAD, str(ROOT / "examples/seedling/model"), str(folder), json.dumps(prompts)))
    for number, (prompt, other) in enumerate(zip(prompts, theirs, strict=True)):
        choice = ours[f"p{number}"]["response"]["body"]["choices"][0]
        assert choice["text"] == prompt + other["text"]
        compare_scores(choice["logprobs"]["token_logprobs"][: len(other["scores"])], other["scores"])


def test_a_peft_folder_is_registered_and_checked_whole(client, trained, tmp_path):
    source = tmp_path / "adapter"
    source.mkdir()
    given = ROOT / "examples/seedling/adapters/iso-date"
    for file in given.iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    spec = {"action": "register", "model": "tiny", "name": "given", "path": str(source)}
    ended = client.wait(client.submit("adapter", spec, worker="peft"))
    assert ended["state"] == "succeeded", ended
    schemas.check("result.adapter", ended["result"])
    config = json.loads((source / "adapter_config.json").read_text())
    (source / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["q_proj", "k_proj"]}))
    failed = client.wait(client.submit("adapter", spec, worker="peft"))
    assert failed["state"] == "failed" and failed["error"]["code"] == "BAD_ADAPTER", failed


def flags(shown):
    """The text, and for each token but the first, which nothing predicts, whether it is trained."""
    trained = [span["trained"] for span in shown["spans"] for _ in range(span["tokens"])]
    return "".join(span["text"] for span in shown["spans"]), trained[1:]


ROWS = [
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b", "weight": 0},
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": "d e"},
        ]
    },
    {"prompt": "one two", "completion": " three"},
    {"text": "just text"},
    {"instruction": "say", "input": "it", "output": "it"},
    {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "r"}], "source": "x"},
    {"messages": [{"role": "user", "content": "a"}]},
    {"messages": [{"role": "robot", "content": "a"}]},
    {"text": "word " * 3000},
]


@pytest.mark.parametrize("train_on", ["assistant", "all", "last"])
def test_check_shows_the_same_tokens_and_labels_as_the_native_worker(client, train_on):
    data = "".join(json.dumps(row) + "\n" for row in ROWS).encode() + b"no json\n"
    spec = {"action": "data", "model": "tiny", "recipe": {"train_on": train_on}, "rows": 20}
    found = {}
    for worker in ("lora", "peft"):
        ended = client.wait(client.submit("check", spec, {"data": data}, worker=worker))
        assert ended["state"] == "succeeded", ended
        schemas.check("result.check", ended["result"])
        found[worker] = ended["result"]
    native, peft = found["lora"], found["peft"]
    for key in ("rows", "usable", "tokens", "labels", "duplicates", "lengths"):
        assert native[key] == peft[key], key
    for one, other in zip(native["shown"], peft["shown"], strict=True):
        assert (one["line"], flags(one)) == (other["line"], flags(other))
    assert [(row["line"], row["code"]) for row in native["refused"]] == [(row["line"], row["code"]) for row in peft["refused"]]


def test_a_finetune_whose_worker_gives_way_goes_on_from_its_checkpoint(client, trained):
    """SIGTERM to the worker in the middle: the same losses at the end as the run that nothing disturbed."""
    recipe = RECIPE | {"max_steps": 30, "save_steps": 1000}
    train = head(TASK / "train.jsonl", 48)
    whole = client.wait(client.finetune("tiny", train, "whole", recipe=recipe, worker="peft"))
    job = client.finetune("tiny", train, "broken", recipe=recipe, worker="peft")
    harness.until(lambda: (client.job(job).get("progress") or {}).get("done", 0) >= 2, "two steps were made")
    worker = next(worker for worker in client.workers()["workers"] if worker["plugin"] == "peft")
    os.kill(worker["pid"], signal.SIGTERM)
    ended = client.wait(job, timeout=300)
    assert ended["state"] == "succeeded", ended
    assert 2 <= ended["result"]["resumed_from_step"] < 30
    assert ended["result"]["last_loss"] == whole["result"]["last_loss"]


def test_a_recipe_that_does_not_fit_is_refused(client):
    train = head(TASK / "train.jsonl", 4)
    for recipe, field in (
        ({"target_modules": ["no_such_matrix"]}, "no_such_matrix"),
        ({"max_length": 10_000_000}, "max_length"),
        ({"learning_rate": "find"}, "learning_rate"),
        ({"loraplus_lr_ratio": 4}, "loraplus_lr_ratio"),
    ):
        ended = client.wait(client.finetune("tiny", train, "bad", recipe=recipe, worker="peft"))
        assert ended["state"] == "failed" and field in ended["error"]["message"], ended
        assert ended["error"]["class"] == "user"
