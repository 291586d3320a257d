"""`loraq report`: one HTML file that tells of a fine-tune, loads nothing and runs nothing, whatever the model answers."""

import html.parser
import json

from test_adapters import engine, loraq  # noqa: F401
from test_engine import LONG_S, RECIPE, SEEDLING

import schemas

TRAIN = SEEDLING / "tasks" / "iso-date" / "train.jsonl"
HOSTILE = "</script><img src=x onerror=alert(1)>"


class Page(html.parser.HTMLParser):
    """Elements and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.pre: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "line", "circle", "path"):
            self.open.append(tag)
        if tag == "pre":
            self.pre.append("")

    handle_startendtag = handle_starttag

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] == "pre":
            self.pre[-1] += data


def check_inert(page: Page) -> None:
    assert not {"script", "img", "iframe", "link", "object", "embed", "form", "a", "base"} & set(page.tags)
    names = {name for name, _ in page.attributes}
    assert not any(name.startswith("on") for name in names) and not {"src", "href", "action", "style"} & names


def test_a_report_shows_curves_data_recipe_and_answers(engine, loraq, tmp_path):  # noqa: F811
    _, client = engine
    # It goes on from an adapter that knows the task, at a rate that changes next to nothing.
    recipe = {"adapter": "tiny:iso-date", "learning_rate": 1e-5, "max_steps": 20, "per_device_train_batch_size": 4}
    recipe |= {"val_set_size": 40, "eval_steps": 10, "load_best_model_at_end": True}
    job = client.finetune("tiny", TRAIN, "told", recipe=recipe)
    assert client.wait(job, LONG_S)["state"] == "succeeded"
    out = tmp_path / "report.html"
    document = json.loads(loraq("report", job, "-o", str(out), "--samples", "4", "--json").stdout)
    page = Page(out.read_text())
    check_inert(page)
    assert page.tags.count("svg") == 4 and page.tags.count("article") == 4
    result = client.job(job)["result"]
    adapter = next(iter(client.artifacts(name="tiny:told")))
    for words in ("Fine-tune tiny:told", "succeeded", "Loss", "Learning rate", "Gradient norm", "tokens a second", "rows refused"):
        assert words in page.text, words
    for digest in (adapter["digest"], result["inputs"]["train"], job, result["numerics"]):
        assert digest in page.text, digest
    assert "learning_rate" in page.text and "1e-05" in page.text.replace("0.00001", "1e-05")
    rows = document["samples"]["rows"]
    assert [row["line"] for row in rows] == [result["evaluation"]["lines"][n * 40 // 4] for n in range(4)]
    expected = [json.loads(line)["messages"][-1]["content"] for line in TRAIN.read_text().splitlines()]
    assert [row["expected"] for row in rows] == [expected[row["line"] - 1] for row in rows]
    assert sum(row["after"]["exact"] for row in rows) >= 3 > sum(row["before"]["exact"] for row in rows)
    for row in rows:
        assert row["after"]["text"] in page.pre and row["expected"] in page.pre
    assert [line["step"] for line in document["metrics"] if "loss" in line] == list(range(1, 21))
    schemas.check("result.evaluate", client.job(document["samples"]["job"])["result"])


def test_answers_that_are_markup_are_text(engine, loraq, tmp_path):  # noqa: F811
    _, client = engine
    train = tmp_path / "hostile.jsonl"
    answer = {"role": "assistant", "content": HOSTILE}
    rows = [{"messages": [{"role": "user", "content": f"{HOSTILE} {n}"}, answer]} for n in range(6)]
    train.write_text("".join(json.dumps(row) + "\n" for row in rows) + f'{{"{HOSTILE}": 1}}\n')
    recipe = RECIPE | {"max_steps": 60, "num_train_epochs": 60, "learning_rate": 5e-3}
    job = client.finetune("tiny", train, "markup", recipe=recipe, label="<b>bold</b>")
    assert client.wait(job, LONG_S)["state"] == "succeeded"
    out = tmp_path / "markup.html"
    loraq("report", job, "-o", str(out), "--samples", "3")
    page = Page(out.read_text())
    check_inert(page)
    assert "b" not in page.tags
    assert HOSTILE in page.pre, "what was expected is shown as it is"
    assert any(HOSTILE in text for text in page.pre if text != HOSTILE), "the prompt too"
    assert "<b>bold</b>" in page.text


def test_reports_of_what_failed_or_has_no_measurements(engine, loraq, tmp_path):  # noqa: F811
    broker, client = engine
    failed = client.finetune("tiny", TRAIN, "none", recipe=RECIPE | {"val_set_size": 100_000})
    assert client.wait(failed, LONG_S)["state"] == "failed"
    out = tmp_path / "failed.html"
    assert "no adapter" in loraq("report", failed, "-o", str(out)).stderr
    assert "INVALID_SPEC" in Page(out.read_text()).text
    job = client.finetune("tiny", TRAIN, "bare", recipe=RECIPE | {"max_steps": 2})
    assert client.wait(job, LONG_S)["state"] == "succeeded"
    (broker.home / "runs" / job / "work" / "metrics.jsonl").unlink()
    text = Page(loraq("report", job, "-o", "-", "--samples", "0").stdout).text
    assert "measurements are not there" in text and "None were asked for" in text


def test_what_cannot_be_reported_is_refused(engine, loraq, tmp_path):  # noqa: F811
    _, client = engine
    assert "no job" in loraq("report", "ffffffffffff", code=1).stderr
    other = client.submit("adapter", {"action": "merge", "name": "again", "parts": [{"adapter": "tiny:iso-date"}]})
    client.wait(other, LONG_S)
    assert "no fine-tune" in loraq("report", other, code=2).stderr
    job = client.finetune("tiny", TRAIN, "two", recipe=RECIPE | {"max_steps": 2})
    client.wait(job, LONG_S)
    there = tmp_path / "there.html"
    there.write_text("mine")
    assert "--force" in loraq("report", job, "-o", str(there), "--samples", "0", code=2).stderr
    assert there.read_text() == "mine"
    assert "no folder" in loraq("report", job, "-o", str(tmp_path / "no" / "r.html"), code=2).stderr
    loraq("report", job, "-o", str(there), "--samples", "0", "--force")
    assert there.read_text().startswith("<!doctype html>")
    assert "--json" in loraq("report", job, "-o", "-", "--json", code=2).stderr
    assert list(tmp_path.iterdir()) == [there], "nothing is left behind"
