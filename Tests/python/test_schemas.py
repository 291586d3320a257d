"""The examples and what the Swift types encode, against the schemas, with a real validator."""

import json
import os
import pathlib
import subprocess

import pytest
from jsonschema import Draft202012Validator

import schemas

NAMES = sorted(name.removesuffix(schemas.SUFFIX) for name in schemas.documents() if not name.startswith("common"))
EXCEPTIONS = json.loads((schemas.SCHEMAS / "examples" / "exceptions.json").read_text())


def examples(kind: str, name: str) -> list[pathlib.Path]:
    return sorted((schemas.SCHEMAS / "examples" / kind / name).glob("*.json"))


def test_every_schema_is_one_and_has_examples():
    for document in schemas.documents().values():
        Draft202012Validator.check_schema(document)
    for kind in ("valid", "invalid"):
        assert sorted(path.name for path in (schemas.SCHEMAS / "examples" / kind).iterdir()) == NAMES
        assert all(examples(kind, name) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_valid_examples_are_accepted(name):
    for path in examples("valid", name):
        schemas.check(name, json.loads(path.read_text()))


@pytest.mark.parametrize("name", NAMES)
def test_invalid_examples_are_refused(name):
    for path in examples("invalid", name):
        accepted = schemas.validator(name).is_valid(json.loads(path.read_text()))
        assert accepted == (f"{name}/{path.stem}" in EXCEPTIONS["only_the_types_refuse"]), path


def test_exceptions_name_examples_that_exist():
    for names in EXCEPTIONS.values():
        for name in names:
            assert (schemas.SCHEMAS / "examples" / "invalid" / f"{name}.json").exists()


def manifests() -> list[pathlib.Path]:
    return sorted(path for top in ("workers", "examples") for path in (schemas.ROOT / top).rglob("worker.json"))


@pytest.mark.parametrize("path", manifests(), ids=lambda path: path.parent.name)
def test_manifests_in_the_repository_are_valid(path):
    schemas.check("worker", json.loads(path.read_text()))


def test_what_the_swift_types_encode_is_valid(tmp_path):
    """Runs the one Swift test that writes samples, from the test bundle that `swift build --build-tests` left."""
    if not list((schemas.ROOT / ".build").glob("*/release/*PackageTests.xctest")):
        pytest.fail("the Swift tests are not built: swift build --build-tests -c release -Xswiftc -enable-testing")
    command = [
        "swift",
        "test",
        "--skip-build",
        "-c",
        "release",
        "-Xswiftc",
        "-enable-testing",
        "--filter",
        "encodedSamplesAreWritten",
    ]
    environment = os.environ | {"LORAQ_ENCODED_SAMPLES": str(tmp_path)}
    done = subprocess.run(command, cwd=schemas.ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    written = {path.name for path in tmp_path.iterdir()}
    assert written == set(NAMES)
    for name in NAMES:
        for path in (tmp_path / name).glob("*.json"):
            schemas.check(name, json.loads(path.read_text()))
