"""Models and adapters with one thing wrong each: refused when they are added, by file, field and reason."""

import json
import pathlib
import shutil
import struct
import subprocess

import harness
import pytest
from loraq import LoraqError

MODEL = harness.ROOT / "Tests" / "Fixtures" / "ModelFiles" / "tiny-llama"
LONG_S = 4 * harness.DEADLINE_S


@pytest.fixture(scope="module")
def client():
    if not (harness.BIN / "lora-worker").exists():
        pytest.fail(f"{harness.BIN}/lora-worker is not there: build it, or set LORAQ_BIN")
    with harness.running(harness.ROOT / "workers") as broker:
        client = broker.client(timeout=60)
        client.test_home = broker.home
        status = client.wait(client.submit("prepare", {"name": "base", "path": str(MODEL)}), LONG_S)
        assert status["state"] == "succeeded", status
        yield client


def read(path: pathlib.Path) -> tuple[dict, bytes]:
    """Header and data of a safetensors file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write(path: pathlib.Path, header: dict, data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def without(header: dict, data: bytes, name: str) -> tuple[dict, bytes]:
    """The same file without one tensor."""
    begin, end = header[name]["data_offsets"]
    kept = {key: value for key, value in header.items() if key not in (name, "__metadata__")}
    moved = {}
    for key, value in kept.items():
        a, b = value["data_offsets"]
        shift = end - begin if a >= end else 0
        moved[key] = value | {"data_offsets": [a - shift, b - shift]}
    return moved, data[:begin] + data[end:]


def config_byte(folder):
    path = folder / "config.json"
    path.write_text(path.read_text().replace(":", ";", 1))


def header_byte(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[content.index(b"BF16")] = ord("X")
    path.write_bytes(content)


def missing_tensor(folder):
    path = folder / "model.safetensors"
    write(path, *without(*read(path), "model.norm.weight"))


def extra_tensor(folder):
    path = folder / "model.safetensors"
    header, data = read(path)
    header["model.layers.0.extra.weight"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(data), len(data) + 4]}
    write(path, header, data + b"\0\0\0\0")


def missing_shard(folder):
    header, _ = read(folder / "model.safetensors")
    names = [name for name in header if name != "__metadata__"]
    shards = {name: "model-00001-of-00002.safetensors" for name in names}
    shards[names[0]] = "model-00002-of-00002.safetensors"
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


def unknown_field(folder):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"turbo_attention": 7}))


def cut_file(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    "harm, parts",
    [
        (config_byte, ["config.json"]),
        (header_byte, ["model.safetensors", "dtype"]),
        (missing_tensor, ["model.norm.weight", "missing"]),
        (extra_tensor, ["model.layers.0.extra.weight"]),
        (missing_shard, ["model-00002-of-00002.safetensors"]),
        (unknown_field, ["config.json", "turbo_attention"]),
        (cut_file, ["model.safetensors"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_model_with_one_thing_wrong_is_refused_with_one_clear_error(client, tmp_path, harm, parts):
    """KINDS 26 and 27."""
    folder = tmp_path / "model"
    shutil.copytree(MODEL, folder)
    harm(folder)
    status = client.wait(client.submit("prepare", {"name": harm.__name__.replace("_", "-"), "path": str(folder)}), LONG_S)
    assert status["state"] == "failed", status
    error = status["error"]
    assert error["class"] == "user", error
    for part in parts:
        assert part in error["message"], error
    assert not [entry for entry in client.artifacts() if harm.__name__.replace("_", "-") in entry["name"]]


@pytest.mark.parametrize("ids, words", [(3, ["40 rows", "3 ids", "37 rows are padding"]), (50, ["50 ids", "40 rows"])])
def test_rows_of_the_embedding_and_ids_of_the_tokenizer_are_compared(client, tmp_path, ids, words):
    """KINDS 12: the numbers are shown."""
    folder = tmp_path / "model"
    shutil.copytree(MODEL, folder)
    vocabulary = {chr(0x4E00 + index): index for index in range(ids)}
    tokenizer = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": vocabulary, "merges": []}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    status = client.wait(client.submit("prepare", {"name": f"padded{ids}", "path": str(folder)}), LONG_S)
    assert status["state"] == "succeeded", status
    warnings = " ".join(status["result"]["warnings"])
    assert all(word in warnings for word in words), warnings


def adapter(folder: pathlib.Path, config: dict, change=None) -> pathlib.Path:
    """An adapter on q_proj of the tiny model, all ones."""
    base = json.loads((MODEL / "config.json").read_text())
    width, rank = base["hidden_size"], 2
    header, offset = {}, 0
    for layer in range(base["num_hidden_layers"]):
        for part, shape in (("lora_A", [rank, width]), ("lora_B", [width, rank])):
            size = 4 * shape[0] * shape[1]
            name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.{part}.weight"
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + size]}
            offset += size
    folder.mkdir()
    data = struct.pack("<f", 1.0) * (offset // 4)
    if change:
        header, data = change(header, data)
    write(folder / "adapter_model.safetensors", header, data)
    default = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(default | config))
    return folder


def first_dropped(header, data):
    return without(header, data, next(iter(header)))


def first_nan(header, data):
    return header, struct.pack("<f", float("nan")) + data[4:]


@pytest.mark.parametrize(
    "name, config, change, part",
    [
        ("no-target", {"target_modules": ["q_proj", "c_attn"]}, None, "c_attn"),
        ("no-tensor", {}, first_dropped, "q_proj.lora_A.weight"),
        ("no-place", {"target_modules": ["k_proj"]}, None, "k_proj"),
        ("not-finite", {}, first_nan, "finite"),
        ("wrong-rank", {"r": 3}, None, "shape"),
        ("new-field", {"quantum_rank": 3}, None, "quantum_rank"),
        ("no-lora-bias", {"lora_bias": True}, None, "lora_bias"),
    ],
)
def test_an_adapter_with_one_thing_wrong_is_refused_when_it_is_registered(client, tmp_path, name, config, change, part):
    """KINDS 6, 9 and 10: no request is the first to find out."""
    folder = adapter(tmp_path / "adapter", config, change)
    spec = {"action": "register", "model": "base", "name": name, "path": str(folder)}
    status = client.wait(client.submit("adapter", spec), LONG_S)
    assert status["state"] == "failed", status
    assert status["error"]["class"] == "user", status["error"]
    assert part in status["error"]["message"], status["error"]
    assert not list(client.artifacts(name=f"base:{name}"))


def cut_short(header, data):
    return header, data[:-4]


def test_a_damaged_adapter_is_named_as_the_person_named_it(client, tmp_path):
    """Not by the copy that the broker checks, and as an adapter."""
    folder = adapter(tmp_path / "mine", {}, cut_short)
    spec = {"action": "register", "model": "base", "name": "damaged", "path": str(folder)}
    error = client.wait(client.submit("adapter", spec), LONG_S)["error"]
    assert error["code"] == "BAD_ADAPTER", error
    assert f"{folder}/adapter_model.safetensors" in error["message"], error
    assert str(client.test_home) not in error["message"], error


def test_layers_that_the_model_does_not_have_are_what_is_told(client, tmp_path):
    folder = adapter(tmp_path / "adapter", {"layers_to_transform": [99]})
    spec = {"action": "register", "model": "base", "name": "layers", "path": str(folder)}
    message = client.wait(client.submit("adapter", spec), LONG_S)["error"]["message"]
    assert 'layers_to_transform: entry "99" matches no module' in message


def test_data_that_cannot_be_used_is_named_by_its_input(client):
    path = harness.ROOT / "examples" / "seedling" / "model"
    prepared = client.wait(client.submit("prepare", {"name": "seedling", "path": str(path)}), LONG_S)
    assert prepared["state"] == "succeeded", prepared
    good, empty = b'{"prompt": "a", "completion": "b"}\n', b"\n"
    for name in ("train", "eval"):
        inputs = {"train": good} | {name: empty}
        spec = {"model": "seedling", "name": "x", "recipe": {"max_steps": 1}}
        error = client.wait(client.submit("finetune", spec, inputs), LONG_S)["error"]
        assert error["message"] == f"{name}: holds no rows", error


def test_an_adapter_in_gguf_form_has_the_effect_of_the_folder_that_it_was_made_from(client, tmp_path):
    """KINDS 11: a folder through `lora-worker adapter-gguf` and back is the same adapter: one digest."""
    folder = adapter(tmp_path / "folder", {})
    output = tmp_path / "adapter.gguf"
    subprocess.run([harness.BIN / "lora-worker", "adapter-gguf", folder, MODEL, output], check=True)
    for name, path in (("folder", folder), ("gguf", output)):
        spec = {"action": "register", "model": "base", "name": name, "path": str(path)}
        status = client.wait(client.submit("adapter", spec), LONG_S)
        assert status["state"] == "succeeded", status
    found = {entry["name"]: entry["digest"] for entry in client.artifacts(name="base:")}
    assert found["base:folder"] == found["base:gguf"]
    export = [harness.BIN / "loraq", "--home", client.test_home, "adapters", "export", "base:gguf", tmp_path / "out", "--gguf"]
    subprocess.run(export, check=True)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "adapter.gguf"}
    assert (tmp_path / "out" / "adapter.gguf").read_bytes() == output.read_bytes()
    assert len({path.stat().st_mode for path in (tmp_path / "out").iterdir()}) == 1, "who may read one may read all"


@pytest.mark.parametrize("name", ["../out", "a/b", "..", ".hidden", "a b", "", "x" * 200, "a\n", "é"])
def test_names_are_not_paths(client, tmp_path, name):
    """KINDS 14: on the wire, as a model's and an adapter's name and in a line."""
    folder = adapter(tmp_path / "adapter", {})
    with pytest.raises(LoraqError) as refused:
        client.submit("prepare", {"name": name, "path": str(MODEL)})
    assert "name" in str(refused.value)
    with pytest.raises(LoraqError) as refused:
        client.submit("adapter", {"action": "register", "model": "base", "name": name, "path": str(folder)})
    assert "name" in str(refused.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_adapters_of_every_setting_compute_what_peft_computes(dtype):
    """KINDS 10, 11 and 12: expressions, exclusions, layers, tied and saved matrices, DoRA on the head, on a tied base."""
    case = harness.ROOT / "Tests" / "TransformerTests" / "Fixtures" / "settings"
    command = [harness.BIN / "lora-worker", "verify", "--dtype", dtype, case]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S)
    assert done.returncode == 0, done.stdout + done.stderr
    for variant in (case / "adapter").iterdir():
        assert f"logits {variant.name}  " in done.stdout
