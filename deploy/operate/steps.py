"""A step, the plan that runs or shows it, and what is remembered between two commands."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import string
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from quadrat.redaction import redact

NOTHING = ("", "[]", "{}", "null", "None", "false")


class ClusterError(Exception):
    """What cannot be done, with the cure."""


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        says: what it does, in words.
        command: the program and its arguments; `$name` stands for a remembered value.
        stdin: what it reads, or what makes that; never shown.
        feed: a command whose output it reads; neither shown nor kept.
        unless: a command that prints something when the step has been done already.
        needs: a command that prints something when there is something to do.
        files: files of the folder that the command reads, made just before it.
        keep: takes what the next steps need from its output.
        makes, removes: names of what exists after it, and of what no longer does.
        tries: how often, where a cloud needs minutes until a right holds.
    """

    says: str
    command: Sequence[str]
    stdin: str | Callable[[], str] | None = None
    feed: Sequence[str] = ()
    unless: Sequence[str] = ()
    needs: Sequence[str] = ()
    files: Callable[[], Mapping[str, Any]] | None = None
    keep: Callable[[str], Mapping[str, Any]] | None = None
    makes: Sequence[str] = ()
    removes: Sequence[str] = ()
    tries: int = 1


@dataclass
class State:
    """What is known of the cluster, in `state.json` of its folder; no keys.

    Attributes:
        values: names that steps use: place, region, registry, account, ...
        exists: what commands made and none removed yet.
    """

    folder: Path
    values: dict[str, Any] = field(default_factory=dict)
    exists: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> State:
        """The state of an earlier command; empty when there is none."""
        path = folder / "state.json"
        if not path.exists():
            return cls(folder)
        found = json.loads(path.read_text("utf-8"))
        return cls(folder, found["values"], found["exists"])

    def write(self) -> None:
        """Keep it; in one step, so that no crash leaves half of it."""
        self.write_file("state.json", {"values": self.values, "exists": self.exists})

    def write_file(self, name: str, content: Any) -> Path:
        """A file of the folder, JSON unless it is a text already."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path, new = self.folder / name, self.folder / f"{name}.new"
        new.write_text(
            content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
        )
        new.replace(path)
        return path

    def text(self, template: str) -> str:
        """A text with remembered values in the places of their `$names`."""
        known = {k: v for k, v in self.values.items() if isinstance(v, str | int)}
        filled = template
        for _ in range(2):  # a value may name others
            filled = string.Template(filled).substitute(known)
        return filled

    def forget(self) -> None:
        """Remove what is remembered: nothing is left of the cluster."""
        names = ("state.json", "values.json", "eksctl.yaml", "kubeconfig", "job-*.json")
        for path in [p for name in names for p in self.folder.glob(name)]:
            path.unlink()

    def __getitem__(self, key: str) -> Any:
        if key not in self.values:
            raise ClusterError(f"{self.folder} knows no {key}; `cluster create` comes first")
        return self.values[key]


class Plan:
    """Runs steps, or with `dry_run` shows them.

    Args:
        state: filled by steps; with `dry_run` nothing of it is written.
    """

    def __init__(self, state: State, *, dry_run: bool) -> None:
        self.state, self.dry_run = state, dry_run

    def run(self, steps: Sequence[Step]) -> None:
        """All steps in order; ClusterError at the first that fails."""
        for number, step in enumerate(steps, 1):
            say(f"[{number}/{len(steps)}] {step.says}")
            self._run(step)

    def ask(self, command: Sequence[str]) -> str | None:
        """What a command that changes nothing prints; None when it fails, or is only shown."""
        filled = self._filled(command)
        show(filled)
        if self.dry_run:
            return None
        done = subprocess.run(filled, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else None

    def follow(self, command: Sequence[str]) -> int:
        """A command whose output goes straight to the terminal; its exit code."""
        filled = self._filled(command)
        show(filled)
        return 0 if self.dry_run else subprocess.run(filled, check=False).returncode

    def _run(self, step: Step) -> None:
        command = self._filled(step.command)
        if not self.dry_run and self._is_done(step):
            say("      nothing to do")
            self._note(replace(step, makes=()))  # it may have been there before
            return
        show(command, self._filled(step.feed))
        if self.dry_run:
            return
        self._note(replace(step, removes=()))  # what is made by half is there to be deleted
        for name, content in (step.files() if step.files else {}).items():
            self.state.write_file(name, content)
        for left in range(step.tries - 1, -1, -1):
            done = self._call(step, command)
            if done.returncode == 0:
                break
            if not left:
                raise ClusterError(
                    f"{command[0]} failed ({done.returncode}) where it was to {step.says}: "
                    f"{redact(done.stderr.strip())[-2000:]}\n"
                    "The same command, given again, goes on from here; `cluster delete` undoes it."
                )
            time.sleep(float(os.environ.get("CLUSTER_PAUSE_S", "15")))
        if step.keep:
            self.state.values.update(step.keep(done.stdout))
        elif done.stdout.strip() and not step.feed:
            say(redact(done.stdout.rstrip()))
        self._note(step)

    def _is_done(self, step: Step) -> bool:
        if step.unless and self._prints(step.unless):
            return True
        return bool(step.needs) and not self._prints(step.needs)

    def _note(self, step: Step) -> None:
        """Remember what exists by now."""
        made = [x for x in map(self._text, step.makes) if x not in self.state.exists]
        gone = {self._text(x) for x in step.removes}
        self.state.exists = [x for x in [*self.state.exists, *made] if x not in gone]
        self.state.write()

    def _call(self, step: Step, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        given = step.stdin() if callable(step.stdin) else step.stdin
        if step.feed:
            fed = subprocess.run(
                self._filled(step.feed), capture_output=True, text=True, check=False
            )
            if fed.returncode:
                return fed
            given = fed.stdout
        if shutil.which(command[0]) is None:
            raise ClusterError(f"{command[0]} is not installed; it is needed to {step.says}")
        return subprocess.run(
            command, input=given or "", capture_output=True, text=True, check=False
        )  # fmt: skip

    def _prints(self, command: Sequence[str]) -> bool:
        filled = self._filled(command)
        done = subprocess.run(filled, capture_output=True, text=True, check=False)
        return done.returncode == 0 and done.stdout.strip() not in NOTHING

    def _filled(self, command: Sequence[str]) -> list[str]:
        return [self._text(x) for x in command]

    def _text(self, text: str) -> str:
        if self.dry_run:
            known = {x: f"<{x}>" for x in string.Template(text).get_identifiers()}
            return State(self.state.folder, {**known, **self.state.values}).text(text)
        try:
            return self.state.text(text)
        except KeyError as error:
            raise ClusterError(
                f"no step has told {error} yet; run `cluster create` again"
            ) from None


def show(command: Sequence[str], feed: Sequence[str] = ()) -> None:
    """Print a command as it could be typed."""
    line = shlex.join(command)
    say("    $ " + redact(f"{shlex.join(feed)} | {line}" if feed else line))


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def warn(text: str) -> None:
    """Print a line on the error stream."""
    print(text, file=sys.stderr, flush=True)
