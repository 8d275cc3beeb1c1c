"""Defaults for the command line: `quadrat.toml` in the working folder, and `QUADRAT_*` variables.

What is said on the command line comes first, then the environment, then the file, then what is
built in. The file is `quadrat.toml` in the working folder, or the one that `QUADRAT_CONFIG` names.
The library itself reads no configuration: the command line passes values on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from quadrat import text
from quadrat.choices import ENGINES
from quadrat.errors import InputError

FILE = "quadrat.toml"
PREFIX = "QUADRAT_"

# Variables with the prefix that are no defaults: the file's place, and what only tests read.
OTHER_VARIABLES = ("QUADRAT_CONFIG",)
TEST_PREFIX = "QUADRAT_TEST_"


@dataclass(frozen=True)
class Config:
    """Defaults; None is "not set".

    Attributes:
        tiles: the folder (any URI) in which tile sets named by a bare word lie.
        models: the same for models.
        scores: the same for scores.
        tracking_uri: where the run history is kept (anything that MLflow takes).
        engine: `local` or `spark`.
        master: Spark's master (`local[*]`, `spark://host:7077`, `yarn`, ...).
        legend: a shipped legend's name or a TOML file.
        cache: the folder of cached features and graphs.
        workers: how many parts are worked on at once.
    """

    tiles: str | None = None
    models: str | None = None
    scores: str | None = None
    tracking_uri: str | None = None
    engine: str | None = None
    master: str | None = None
    legend: str | None = None
    cache: str | None = None
    workers: int | None = None

    def place(self, kind: str, name: str) -> str:
        """Where the tile set, model or scores called `name` lies.

        A bare word is looked for in the folder that `kind` ("tiles", "models", "scores") is set to;
        anything with a slash or a dot (a file's ending), and every name when nothing is set, is a
        path or URI as it stands.
        """
        folder: str | None = getattr(self, kind)
        if folder is None or not name or set(name) & {"/", os.sep, "."}:
            return name
        return f"{folder.rstrip('/')}/{name}"


KEYS = tuple(f.name for f in fields(Config))
PLACES = ("tiles", "models", "scores")  # what a bare name may lie in
_PATHS = (*PLACES, "cache")


def load(folder: str | Path = ".", environ: Mapping[str, str] | None = None) -> Config:
    """The defaults that hold in a working folder.

    Relative paths in a file are relative to the file's own folder.

    Raises:
        InputError: an unknown key or variable, a value of the wrong kind, a file that is no TOML.
    """
    env = os.environ if environ is None else environ
    config = _from_file(Path(folder), env.get("QUADRAT_CONFIG"))
    values: dict[str, Any] = {}
    for name, said in env.items():
        if not name.startswith(PREFIX) or name in OTHER_VARIABLES or name.startswith(TEST_PREFIX):
            continue
        key = name.removeprefix(PREFIX).lower()
        if name != name.upper() or key not in KEYS:
            known = [PREFIX + k.upper() for k in KEYS]
            raise InputError(f"unknown variable {name}; {text.near(name, known)}")
        if said.strip():  # an empty variable is an unset one, as in most shells' habits
            values[key] = _checked(key, said, f"the variable {name}", from_text=True)
    return replace(config, **values)


def _from_file(folder: Path, named: str | None) -> Config:
    path = Path(named) if named else folder / FILE
    try:
        data = text.read_toml(path)
    except FileNotFoundError:
        if named:
            raise InputError(f"QUADRAT_CONFIG names {named}, which does not exist") from None
        return Config()
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in KEYS:
            raise InputError(f"{path}: unknown key {key}; {text.near(key, KEYS)}")
        values[key] = _rooted(key, _checked(key, value, f"{path}: {key}"), path.parent)
    return Config(**values)


def _checked(key: str, value: object, where: str, *, from_text: bool = False) -> str | int:
    if key == "workers":
        if from_text and isinstance(value, str) and re.fullmatch(r"\s*\d+\s*", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{where} is {value!r}; it must be a whole number from 1 up")
        return value
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where} is {value!r}; it must be text in quotes")
    value = value.strip()
    if key == "engine" and value not in ENGINES:
        raise InputError(f"{where} is {value!r}; it must be one of {', '.join(ENGINES)}")
    return value


def _rooted(key: str, value: str | int, folder: Path) -> str | int:
    """A relative path of a file in another folder, made relative to the working folder."""
    is_path = key in _PATHS or (key == "legend" and str(value).endswith(".toml"))
    if isinstance(value, int) or not is_path or "://" in value:
        return value
    return str(folder / Path(value).expanduser())
