"""Lines answered by PEFT and by the native engine."""

import json

import pytest


def lines_of(client, job):
    return {line["custom_id"]: line for line in client.results(job, stream="all")}


def chat(name, text, **fields):
    body = {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 24} | fields
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}


def completion(name, text, **fields):
    body = {"prompt": text, "temperature": 0, "max_tokens": 12} | fields
    return {"custom_id": name, "method": "POST", "url": "/v1/completions", "body": body}


LINES = [
    chat("chat", "Write the date 3 May 2021 in ISO form.", logprobs=True, top_logprobs=2),
    completion("text", "The ticket says", logprobs=3, echo=True),
    completion("score", "The ticket says that", logprobs=1, echo=True, max_tokens=0),
    completion("stop", "one two three four", stop=["e", " t"], max_tokens=20),
    completion("bias", "Hello", logit_bias={"65": -100, "97": 40}, max_tokens=4, frequency_penalty=1.5),
    completion("sampled", "Hello", temperature=0.8, top_p=0.9, top_k=40, min_p=0.02, seed=7, n=2),
]


def test_the_same_answers_as_the_native_engine(client):
    """In float32: the same tokens, the same end, log probabilities within 1e-3."""
    jobs = {worker: client.batch(LINES, model="tiny", worker=worker) for worker in ("lora", "peft")}
    for job in jobs.values():
        assert client.wait(job)["state"] == "succeeded"
    native, peft = (lines_of(client, jobs[worker]) for worker in ("lora", "peft"))
    for name in ("chat", "text", "score", "stop", "bias"):
        a, b = (answers[name]["response"]["body"] for answers in (native, peft))
        assert a["model"] == b["model"] and a["usage"] == b["usage"], name
        for one, other in zip(a["choices"], b["choices"], strict=True):
            scores = [one.pop("logprobs"), other.pop("logprobs")]
            assert one == other, name
            compare_scores(*scores)
    sampled = [answers["sampled"]["response"]["body"] for answers in (native, peft)]
    assert [len(body["choices"]) for body in sampled] == [2, 2]
    assert sampled[0]["seed"] == sampled[1]["seed"] == 7
    assert peft["chat"]["response"]["body"]["system_fingerprint"].startswith("peft-")


def compare_scores(one, other):
    if one is None:
        assert other is None
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            compare_scores(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            compare_scores(a, b)
    elif isinstance(one, float):
        assert other == pytest.approx(one, abs=1e-3)
    else:
        assert one == other


def test_a_seed_names_an_answer(client):
    line = completion("a", "Hello", temperature=1.2, seed=11, max_tokens=16)
    texts = set()
    for _ in range(2):
        job = client.batch([line], model="tiny", worker="peft")
        client.wait(job)
        texts.add(lines_of(client, job)["a"]["response"]["body"]["choices"][0]["text"])
    assert len(texts) == 1


def test_unasked_it_takes_nothing(client):
    job = client.batch([completion("a", "Hello")], model="tiny")
    client.wait(job)
    assert not lines_of(client, job)["a"]["response"]["body"]["system_fingerprint"].startswith("peft-")


BAD = [
    (completion("a", "x", temperature=-1), "BAD_LINE", "body.temperature"),
    (completion("b", "x", tempurature=1), "BAD_LINE", "body.tempurature"),
    (completion("c", "x", stream=True), "BAD_LINE", "body.stream"),
    (completion("d", [99_999_999]), "BAD_LINE", "body.prompt"),
    (chat("e", "x", echo=True), "BAD_LINE", "body.echo"),
    (completion("f", "long " * 5000), "CONTEXT_LENGTH", None),
]


def test_what_is_not_understood_fails_its_line_by_name(client):
    job = client.batch([line for line, _, _ in BAD] + [completion("good", "x")], model="tiny", worker="peft")
    client.wait(job)
    answers = lines_of(client, job)
    for line, code, param in BAD:
        error = answers[line["custom_id"]]["error"]
        assert (error["code"], error.get("param")) == (code, param), error
    assert answers["good"]["error"] is None


def test_a_model_whose_source_changed_is_refused(client, tmp_path):
    source = tmp_path / "model"
    copy_model(source)
    client.wait(client.submit("prepare", {"name": "moved", "path": str(source)}))
    weights = source / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    job = client.batch([completion("a", "x")], model="moved", worker="peft")
    client.wait(job)
    error = lines_of(client, job)["a"]["error"]
    assert error["code"] == "BAD_MODEL" and str(source) in error["message"]


def copy_model(target, **changes):
    import shutil

    from conftest import ROOT

    shutil.copytree(ROOT / "examples/seedling/model", target)
    config = json.loads((target / "config.json").read_text()) | changes
    (target / "config.json").write_text(json.dumps(config))


def test_a_model_that_the_native_engine_refuses_can_be_run(client, tmp_path):
    """Here one whose MLP has another activation, which the native engine does not compute."""
    source = tmp_path / "model"
    copy_model(source, hidden_act="relu")
    refused = client.wait(client.submit("prepare", {"name": "odd", "path": str(source)}))
    assert refused["state"] == "failed" and "hidden_act" in refused["error"]["message"]
    job = client.submit("prepare", {"name": "odd", "path": str(source)}, worker="peft")
    ended = client.wait(job)
    assert ended["state"] == "succeeded", ended
    assert ended["result"]["family"] == "llama" and ended["result"]["has_template"]
    (source / "model.safetensors").unlink()  # it has a copy of its own
    job = client.batch([completion("a", "Hello")], model="odd", worker="peft")
    assert client.wait(job)["counts"]["done"] == 1
    # The native worker says where it can be run.
    native = client.batch([completion("a", "Hello")], model="odd", worker="lora")
    client.wait(native)
    error = lines_of(client, native)["a"]["error"]
    assert error["code"] == "BAD_MODEL" and "peft" in error["message"]


MAKE = """
import json, sys, torch, transformers
family, source, target = sys.argv[1:]
sizes = dict(vocab_size=json.load(open(source + "/config.json"))["vocab_size"], hidden_size=32, num_hidden_layers=2)
own = {
    "gpt_neox": dict(num_attention_heads=4, intermediate_size=64, max_position_embeddings=256),
    "mamba": dict(state_size=4, time_step_rank=4),
}
torch.manual_seed(3)
config = transformers.AutoConfig.for_model(family, **sizes, **own[family], bos_token_id=None, eos_token_id=None, pad_token_id=None)
transformers.AutoModelForCausalLM.from_config(config).save_pretrained(target)
"""
ANSWER = """
import json, sys, torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM
folder, prompt, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
ids = Tokenizer.from_file(folder + "/tokenizer.json").encode(prompt).ids
start = len(ids)
scores = []
with torch.inference_mode():
    for _ in range(count):  # every step from the beginning: no cache to be wrong
        table = torch.log_softmax(model(torch.tensor([ids]), use_cache=False).logits[0, -1].float(), -1)
        ids.append(int(table.argmax()))
        scores.append(float(table[ids[-1]]))
print(json.dumps({"scores": scores, "ids": ids[start:]}))
"""


@pytest.mark.parametrize("family", ["gpt_neox", "mamba"])
def test_an_architecture_that_the_native_engine_does_not_know(client, in_torch, tmp_path, family):
    """Refused natively with its name; added, asked, trained on and asked again through the PEFT worker."""
    from conftest import ROOT

    seedling = ROOT / "examples/seedling/model"
    in_torch(MAKE, family, str(seedling), str(tmp_path / family))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / family / name).write_bytes((seedling / name).read_bytes())
    spec = {"name": family.replace("_", "-"), "path": str(tmp_path / family)}
    refused = client.wait(client.submit("prepare", spec))
    assert refused["state"] == "failed" and f"{family} is not supported" in refused["error"]["message"], refused
    assert "--worker peft" in refused["error"]["hint"]
    ended = client.wait(client.submit("prepare", spec | {"dtype": "float32"}, worker="peft"))
    assert ended["state"] == "succeeded" and ended["result"]["family"] == family, ended
    lines = [completion("a", "The ticket says", max_tokens=8, logprobs=1), completion("b", "Hello", n=2, temperature=1, seed=3)]
    job = client.batch(lines, model=spec["name"], worker="peft")
    assert client.wait(job)["counts"]["done"] == 2
    choice = lines_of(client, job)["a"]["response"]["body"]["choices"][0]
    wanted = json.loads(in_torch(ANSWER, str(tmp_path / family), "The ticket says", "8"))
    assert choice["logprobs"]["token_logprobs"] == pytest.approx(wanted["scores"], abs=1e-4)
    rows = b"".join(b'{"text": "one two three four %d"}\n' % number for number in range(8))
    target = "query_key_value" if family == "gpt_neox" else "in_proj"
    recipe = {"target_modules": [target], "r": 4, "max_steps": 4, "learning_rate": 0.01}
    trained = client.wait(client.finetune(spec["name"], rows, "count", recipe=recipe, worker="peft"))
    assert trained["state"] == "succeeded", trained
    assert trained["result"]["last_loss"] < trained["result"]["first_loss"]
    job = client.batch(lines[:1], model=f"{spec['name']}:count", worker="peft")
    assert client.wait(job)["counts"]["done"] == 1
    adapted = lines_of(client, job)["a"]["response"]["body"]["choices"][0]
    assert adapted["logprobs"]["token_logprobs"] != choice["logprobs"]["token_logprobs"]


SOURCE = """
import pathlib, sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from peft_worker.base import source_folder
print(source_folder({"name": "m", "path": sys.argv[3]}))
"""


@pytest.mark.parametrize("family", ["gpt2", "gpt2-bare", "gemma3", "qwen2"])
def test_the_source_of_a_prepared_model_is_known_by_its_weights(client, in_torch, family):
    """Whatever the architecture calls its tensors, both workers digest the same."""
    from conftest import ROOT

    source = ROOT / "Tests/TransformerTests/Fixtures/families" / family / "model"
    ended = client.wait(client.submit("prepare", {"name": family, "path": str(source)}))
    assert ended["state"] == "succeeded", ended
    digest = ended["result"]["digest"].removeprefix("sha256:")
    folder = next(path for path in (client_home(client) / "models").iterdir() if digest in path.name)
    found = in_torch(SOURCE, str(ROOT / "workers/peft"), str(ROOT / "clients/python/src"), str(folder))
    assert found.strip() == str(source)


def client_home(client):
    import pathlib

    return pathlib.Path(client.control_endpoint.removeprefix("ipc://")).parents[1]
