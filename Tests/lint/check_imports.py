"""Holds every `import` in Sources/ and every dependency in Package.swift to Sources/allowed-imports.txt."""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIST = ROOT / "Sources" / "allowed-imports.txt"
SYSTEM = {"Foundation", "FoundationEssentials", "Glibc", "Musl", "Dispatch", "Synchronization"}
PURE = {"BrokerCore"}  # no clock, no files, no randomness of its own
IMPORT = re.compile(r"^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:(?:public|internal|private|package)\s+)?import\s+(?:\w+\s+)?(\w+)")


def allowed_imports() -> dict[str, set[str]]:
    """Reads the list: target name to the modules it may import."""
    allowed = {}
    for line in LIST.read_text().splitlines():
        line = line.split("#")[0].strip()
        if line:
            target, _, modules = line.partition(":")
            allowed[target.strip()] = set(modules.split())
    return allowed


def faults_in_sources(allowed: dict[str, set[str]]) -> list[str]:
    faults = []
    for folder in sorted(path for path in (ROOT / "Sources").iterdir() if path.is_dir()):
        files = sorted(folder.rglob("*.swift"))
        if files and folder.name not in allowed:
            faults.append(f"Sources/{folder.name}: not in {LIST.name}; add it with what it may import")
            continue
        for file in files:
            for number, line in enumerate(file.read_text().splitlines(), 1):
                match = IMPORT.match(line)
                if not match:
                    continue
                module = match[1]
                system = SYSTEM if folder.name not in PURE else set()
                if module not in allowed[folder.name] | system:
                    where = f"{file.relative_to(ROOT)}:{number}"
                    faults.append(f"{where}: {folder.name} may not import {module}")
            for match in re.finditer(r"\b(?:struct|class|enum|actor|protocol)\s+(\w+)", file.read_text()):
                if match[1] == folder.name:
                    faults.append(f"{file.relative_to(ROOT)}: the type {match[1]} bears its module's name")
    return faults


def faults_in_package(allowed: dict[str, set[str]]) -> list[str]:
    """Compares the dependencies that Package.swift declares with the list."""
    dump = subprocess.run(["swift", "package", "dump-package"], cwd=ROOT, capture_output=True, text=True, check=True)
    faults = []
    for target in json.loads(dump.stdout)["targets"]:
        if target["type"] in {"test", "system"}:
            continue
        declared = {(entry.get("byName") or entry.get("product"))[0] for entry in target["dependencies"]}
        extra = declared - allowed.get(target["name"], set())
        if extra:
            faults.append(f"Package.swift: {target['name']} declares {', '.join(sorted(extra))}, not in {LIST.name}")
    return faults


def main() -> int:
    allowed = allowed_imports()
    faults = faults_in_sources(allowed) + faults_in_package(allowed)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
