"""A helm on PATH that answers from a plan; for the tests that change releases."""

import json
import os
import sys

import pytest

_HELM = """#!{python}
import json, pathlib, sys
folder = pathlib.Path({folder!r})
plan = json.loads((folder / "plan.json").read_text())
arguments = sys.argv[1:]
verb = " ".join(arguments[:2]) if arguments[0] == "get" else arguments[0]
given = sys.stdin.read() if arguments[0] == "upgrade" else ""
with (folder / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps([arguments, given]) + "\\n")
said = plan.get("get values --all" if "--all" in arguments else verb, {{}})
if "error" in said:
    sys.exit("Error: " + said["error"])
if arguments[0] == "upgrade" and "get values --all" in plan:
    plan["get values --all"] = {{"out": {{**plan["get values --all"]["out"], **json.loads(given)}}}}
    (folder / "plan.json").write_text(json.dumps(plan))
print(json.dumps(said.get("out")))
"""


class FakeHelm:
    """A helm on PATH that answers from a plan and remembers how it was called."""

    def __init__(self, folder):
        self._folder = folder
        metadata = {"chart": "strata", "version": "0.1.0", "applyMethod": "ssa"}
        self.plan = {"get metadata": {"out": metadata}, "get values": {"out": None}}

    def write(self):
        (self._folder / "plan.json").write_text(json.dumps(self.plan))

    @property
    def calls(self):
        lines = (self._folder / "calls.jsonl").read_text().splitlines()
        return [tuple(json.loads(line)) for line in lines]


@pytest.fixture
def helm(tmp_path, monkeypatch):
    folder = tmp_path / "helm-bin"
    folder.mkdir()
    script = folder / "helm"
    script.write_text(_HELM.format(python=sys.executable, folder=str(folder)))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    fake = FakeHelm(folder)
    fake.write()
    return fake


@pytest.fixture
def chart(tmp_path):
    folder = tmp_path / "chart"
    folder.mkdir()
    (folder / "Chart.yaml").write_text("name: strata\nversion: 0.1.0\n")
    return folder
