"""Every field of a request's body, through broker and worker, against exact probabilities of the embedded model."""

import collections
import json
import math

import harness
import pytest
from harness import DEADLINE_S

import schemas

SEEDLING = harness.ROOT / "examples" / "seedling"
LONG_S = 4 * DEADLINE_S
PROMPT = "<|im_start|>user\nRewrite the date 3 May 2021 in ISO form.<|im_end|>\n<|im_start|>assistant\nThe"


@pytest.fixture(scope="module")
def client():
    with harness.running(harness.ROOT / "workers") as broker:
        client = broker.client(timeout=60)
        status = client.wait(client.submit("prepare", {"name": "tiny", "path": str(SEEDLING / "model")}), LONG_S)
        assert status["state"] == "succeeded", status
        yield client


def ask(client, bodies: list[dict], url: str = "/v1/completions") -> list[dict]:
    """The response bodies, in order."""
    lines = [
        {"custom_id": f"c{number}", "method": "POST", "url": url, "body": {"model": "tiny"} | body}
        for number, body in enumerate(bodies)
    ]
    job = client.batch(lines)
    client.wait(job, LONG_S)
    found = {}
    for line in client.results(job, stream="all"):
        schemas.check("line.output", line)
        assert line["error"] is None, line
        found[line["custom_id"]] = line["response"]["body"]
    return [found[line["custom_id"]] for line in lines]


def first_token(client, prompt=PROMPT) -> dict[str, float]:
    """Log probabilities of the twenty likeliest next tokens, by text."""
    (body,) = ask(client, [{"prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 20}])
    return body["choices"][0]["logprobs"]["top_logprobs"][0]


def token_ids(client) -> dict[str, int]:
    """Ids of tokens by their text, from the model's vocabulary."""
    vocabulary = json.loads((SEEDLING / "model" / "tokenizer.json").read_text())["model"]["vocab"]
    return {text.replace("Ġ", " ").replace("Ċ", "\n"): number for text, number in vocabulary.items()}


def shares(client, **fields) -> dict[str, float]:
    """What share of 1,024 draws each first token has."""
    bodies = [{"prompt": PROMPT, "max_tokens": 1, "n": 128, "logprobs": 0, "seed": seed} | fields for seed in range(8)]
    counts = collections.Counter(choice["logprobs"]["tokens"][0] for body in ask(client, bodies) for choice in body["choices"])
    assert counts.total() == 1024
    return {token: count / 1024 for token, count in counts.items()}


def expect(found: dict[str, float], weights: dict[str, float]) -> None:
    total = sum(weights.values())
    wanted = {token: weight / total for token, weight in weights.items() if weight > 0}
    assert set(found) <= set(wanted), (found, wanted)
    for token, p in wanted.items():
        # Four deviations; the seeds are fixed, so that the answer is always the same.
        bound = 4 * math.sqrt(p * (1 - p) / 1024) + 1e-3
        assert abs(found.get(token, 0) - p) <= bound, (token, found.get(token, 0), p)


def test_draws_follow_the_exact_probabilities(client):
    top = first_token(client)
    likeliest = sorted(top, key=lambda token: -top[token])
    p = {token: math.exp(top[token]) for token in likeliest}
    eight = likeliest[:8]
    expect(shares(client, top_k=8), {token: p[token] for token in eight})
    expect(shares(client, top_k=8, temperature=2), {token: p[token] ** 0.5 for token in eight})
    expect(shares(client, top_k=8, temperature=0.5), {token: p[token] ** 2 for token in eight})
    kept, mass = [], 0.0
    for token in likeliest:
        if mass >= 0.7:
            break
        kept.append(token)
        mass += p[token]
    if mass >= 0.7:
        expect(shares(client, top_p=0.7), {token: p[token] for token in kept})
    least = 0.15 * p[likeliest[0]]
    expect(shares(client, min_p=0.15), {token: p[token] for token in likeliest if p[token] >= least})
    assert shares(client, temperature=0) == shares(client, temperature=1e-300) == {likeliest[0]: 1.0}
    assert shares(client, top_k=1) == {likeliest[0]: 1.0}


def test_biases_multiply_the_odds(client):
    top = first_token(client)
    ids = token_ids(client)
    known = sorted((token for token in top if token in ids), key=lambda token: -top[token])[:6]
    only = {str(ids[token]): 20 for token in known}
    only[str(ids[known[0]])] = 18.5
    weights = {token: math.exp(top[token] + only[str(ids[token])] - 20) for token in known}
    expect(shares(client, logit_bias=only, top_k=6), weights)
    banned = shares(client, logit_bias={str(ids[known[0]]): -100}, temperature=0)
    assert known[0] not in banned


def test_penalties_count_the_answer(client):
    fields = {"prompt": PROMPT, "max_tokens": 24, "temperature": 0, "logprobs": 20}
    presence, frequency = 1.5, 0.75
    (body,) = ask(client, [fields | {"presence_penalty": presence, "frequency_penalty": frequency}])
    logprobs = body["choices"][0]["logprobs"]
    seen: collections.Counter = collections.Counter()
    for token, top in zip(logprobs["tokens"], logprobs["top_logprobs"], strict=True):
        adjusted = {t: value - presence * (seen[t] > 0) - frequency * seen[t] for t, value in top.items()}
        best = max(adjusted.values())
        assert adjusted[token] >= best - 1e-4, (token, adjusted)
        seen[token] += 1
    plain, penalized = ask(client, [fields, fields | {"repetition_penalty": 1.5}])
    assert plain["choices"][0]["text"] != penalized["choices"][0]["text"]


def test_stops_cut_the_text_wherever_the_tokens_end(client):
    """KINDS 17: several stop strings, across the borders of tokens."""
    (body,) = ask(client, [{"prompt": PROMPT, "max_tokens": 40, "temperature": 0, "logprobs": 0}])
    whole = body["choices"][0]["text"]
    assert len(whole) > 12, whole
    borders = body["choices"][0]["logprobs"]["text_offset"][1:8]
    stops = [[whole[max(0, b - 1) : b + 2]] for b in borders]
    stops += [[whole[3:6], whole[5:7]], [whole[8:12], "never", whole[6:9]], ["never at all"]]
    bodies = ask(client, [{"prompt": PROMPT, "max_tokens": 40, "temperature": 0, "stop": stop} for stop in stops])
    for stop, body in zip(stops, bodies, strict=True):
        ends = [(whole.find(text) + len(text), whole.find(text)) for text in stop if text in whole]
        wanted = whole[: min(ends)[1]] if ends else whole
        choice = body["choices"][0]
        assert choice["text"] == wanted, (stop, whole)
        assert (choice["finish_reason"] == "stop") == (bool(ends) or body["usage"]["completion_tokens"] < 40)


def test_scores_alone(client):
    """No token is made; the prompt's own log probabilities are those of any longer prompt."""
    field = {"max_tokens": 0, "echo": True, "logprobs": 3}
    short, long, ids = ask(
        client, [{"prompt": PROMPT} | field, {"prompt": PROMPT + " date"} | field, {"prompt": [4, 5, 6]} | field]
    )
    scores = short["choices"][0]["logprobs"]
    assert short["choices"][0]["text"] == PROMPT
    assert short["usage"]["completion_tokens"] == 0
    assert scores["token_logprobs"][0] is None and scores["top_logprobs"][0] is None
    assert all(value <= 0 for value in scores["token_logprobs"][1:])
    count = len(scores["tokens"])
    assert short["usage"]["prompt_tokens"] == count
    assert long["choices"][0]["logprobs"]["token_logprobs"][:count] == scores["token_logprobs"]
    assert len(ids["choices"][0]["logprobs"]["tokens"]) == 3
    for token, value, top in zip(scores["tokens"][1:], scores["token_logprobs"][1:], scores["top_logprobs"][1:], strict=True):
        assert len(top) <= 3
        assert token not in top or top[token] == value


def test_echo_gives_prompt_and_answer_with_offsets(client):
    (body,) = ask(client, [{"prompt": PROMPT, "max_tokens": 6, "temperature": 0, "echo": True, "logprobs": 1}])
    choice = body["choices"][0]
    scores = choice["logprobs"]
    assert choice["text"].startswith(PROMPT)
    assert len(scores["tokens"]) == body["usage"]["total_tokens"] == len(scores["text_offset"])
    assert scores["text_offset"] == sorted(scores["text_offset"])
    for token, offset in zip(scores["tokens"], scores["text_offset"], strict=True):
        assert token.startswith("bytes:") or choice["text"][offset:].startswith(token) or offset == len(choice["text"])


def test_choices_have_streams_of_their_own(client):
    """KINDS 18: the same seed gives the same bytes alone, in any batch, at any n."""
    body = {"prompt": PROMPT, "max_tokens": 12, "seed": 11}
    two, four, other, again = ask(client, [body | {"n": 2}, body | {"n": 4}, body | {"n": 2, "seed": 12}, body | {"n": 2}])
    texts = [choice["text"] for choice in four["choices"]]
    assert [choice["index"] for choice in four["choices"]] == [0, 1, 2, 3]
    assert [choice["text"] for choice in two["choices"]] == texts[:2]
    assert again["choices"] == two["choices"]
    assert other["choices"] != two["choices"]
    assert len(set(texts)) > 1
    # Without a seed one is made of job and custom_id, and given back.
    (free,) = ask(client, [{"prompt": PROMPT, "max_tokens": 12}])
    (same,) = ask(client, [{"prompt": PROMPT, "max_tokens": 12, "seed": free["seed"]}])
    assert same["choices"] == free["choices"]


def test_chat_tokens_are_the_text(client):
    messages = [{"role": "user", "content": "Rewrite the date 3 May 2021 in ISO form."}]
    fields = {"messages": messages, "max_completion_tokens": 20, "temperature": 0, "logprobs": True, "top_logprobs": 2}
    (body,) = ask(client, [fields], "/v1/chat/completions")
    choice = body["choices"][0]
    content = choice["logprobs"]["content"]
    joined = bytes(byte for entry in content for byte in entry["bytes"]).decode()
    assert joined.removesuffix("<|im_end|>") == choice["message"]["content"]
    for entry in content:
        assert len(entry["top_logprobs"]) == 2
        assert entry["top_logprobs"][0]["logprob"] == entry["logprob"]
