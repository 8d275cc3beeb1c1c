"""Legends: land-use classes, their colours and source codes, and how one legend folds into another.

A legend is a TOML file; `nlcd6` and `nlcd3` ship with the package. It does not know rasters.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat.errors import LegendError

SHIPPED = ("nlcd6", "nlcd3")

# Paul Tol's "muted" and "light" schemes, told apart with the common colour-vision deficiencies;
# used where a legend is made from folder names.
CYCLE = (
    "#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255",
    "#aa4499", "#77aadd", "#ee8866", "#eedd88", "#ffaabb", "#99ddff", "#44bb99", "#bbcc33",
    "#aaaa00", "#dddddd", "#4477aa", "#ee6677", "#228833",
)  # fmt: skip


@dataclass(frozen=True)
class LandClass:
    """One class of a legend.

    Attributes:
        name: the name that people read; unique in its legend.
        color: `#rrggbb`.
        codes: codes of the label source (NLCD) that fold into this class.
        members: class names of a finer legend that fold into this class, where there are no codes.
    """

    name: str
    color: str
    codes: tuple[int, ...] = ()
    members: tuple[str, ...] = ()

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green, blue, 0 to 255."""
        value = int(self.color[1:], 16)
        return value >> 16, (value >> 8) & 255, value & 255


@dataclass(frozen=True)
class Legend:
    """An ordered set of classes; a class's id is its place in it, from 0.

    Attributes:
        ignore: source codes that are known and have no class (open water in `nlcd6`).
        background: source codes that mean "not mapped".
    """

    name: str
    classes: tuple[LandClass, ...]
    title: str = ""
    ignore: tuple[int, ...] = ()
    background: tuple[int, ...] = ()
    _index: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self)
        object.__setattr__(self, "_index", {c.name: i for i, c in enumerate(self.classes)})

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in the order of their ids."""
        return tuple(c.name for c in self.classes)

    def id(self, name: str) -> int:
        """The id of the class `name`; LegendError when there is none."""
        try:
            return self._index[name]
        except KeyError:
            raise LegendError(
                f"legend {self.name} has no class {name!r}; it has: {', '.join(self.names)}"
            ) from None

    def lookup(self) -> dict[int, int]:
        """Source code -> class id; -1 for codes that are known and have no class."""
        table = dict.fromkeys((*self.ignore, *self.background), -1)
        for i, c in enumerate(self.classes):
            table.update(dict.fromkeys(c.codes, i))
        return table

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `from_dict` (and the TOML file) read back."""
        return {
            "name": self.name,
            "title": self.title,
            "ignore": list(self.ignore),
            "background": list(self.background),
            "classes": [
                {
                    "name": c.name,
                    "color": c.color,
                    "codes": list(c.codes),
                    "members": list(c.members),
                }
                for c in self.classes
            ],
        }


def _check(legend: Legend) -> None:
    if not legend.classes:
        raise LegendError(f"legend {legend.name!r} has no classes; give at least one [[classes]]")
    names = legend.names
    for name in names:
        if not name or name in (".", "..") or re.search(r"[\x00-\x1f/\\]", name):
            raise LegendError(
                f"legend {legend.name}: {name!r} is no class name; use text without slashes"
            )
    for c in legend.classes:
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", c.color):
            raise LegendError(
                f"legend {legend.name}: {c.color!r} of class {c.name} is no colour; use #rrggbb"
            )
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise LegendError(f"legend {legend.name} names a class twice: {', '.join(twice)}")
    codes = [*legend.ignore, *legend.background, *(k for c in legend.classes for k in c.codes)]
    again = sorted({k for k in codes if codes.count(k) > 1})
    if again:
        raise LegendError(
            f"legend {legend.name} gives a code to two classes: {again}; each code has one place"
        )


def from_dict(data: Mapping[str, Any], where: str = "legend") -> Legend:
    """A legend from the plain values of a TOML or JSON file.

    Args:
        where: what the values came from, for error messages.
    """
    known = {"name", "title", "ignore", "background", "classes"}
    unknown = sorted(set(data) - known)
    if unknown:
        raise LegendError(f"{where}: unknown key {unknown[0]!r}; a legend has {sorted(known)}")
    try:
        classes = tuple(
            LandClass(
                name=str(c["name"]),
                color=str(c.get("color") or CYCLE[i % len(CYCLE)]),
                codes=tuple(int(k) for k in c.get("codes", ())),
                members=tuple(str(m) for m in c.get("members", ())),
            )
            for i, c in enumerate(data["classes"])
        )
        return Legend(
            name=str(data["name"]),
            title=str(data.get("title", "")),
            ignore=tuple(int(k) for k in data.get("ignore", ())),
            background=tuple(int(k) for k in data.get("background", ())),
            classes=classes,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LegendError(
            f"{where} is not a legend ({type(error).__name__}: {error}); "
            "it needs name and [[classes]] with name, color, codes"
        ) from None


def load_legend(name_or_path: str) -> Legend:
    """A shipped legend by name, or a user's TOML file by path."""
    if name_or_path in SHIPPED:
        text = resources.files("quadrat.data").joinpath(f"{name_or_path}.toml").read_text("utf-8")
        return from_dict(tomllib.loads(text), name_or_path)
    path = Path(name_or_path)
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise LegendError(
            f"no legend {name_or_path!r}; name a TOML file or one of {', '.join(SHIPPED)}"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LegendError(f"{name_or_path} cannot be read as a TOML legend: {error}") from None
    return from_dict(data, name_or_path)


def from_names(names: Sequence[str], name: str = "folders") -> Legend:
    """A legend from class names alone (a folder of images per class), with safe colours."""
    return Legend(name, tuple(LandClass(n, CYCLE[i % len(CYCLE)]) for i, n in enumerate(names)))


def fold(fine: Legend, coarse: Legend) -> NDArray[np.int64]:
    """Class ids of `fine` -> class ids of `coarse`, shape (len(fine),) int64.

    A class folds into the coarse class that names it in `members`, that holds all its codes, or
    that has its name. LegendError when a class has no place: a fold must lose nothing.
    """
    member = {m: i for i, c in enumerate(coarse.classes) for m in c.members}
    by_code = {k: i for i, c in enumerate(coarse.classes) for k in c.codes}
    result = []
    for c in fine.classes:
        places = {by_code.get(k, -1) for k in c.codes}
        if c.name in member:
            result.append(member[c.name])
        elif len(places) == 1 and places != {-1}:
            result.append(places.pop())
        elif not c.codes and c.name in coarse.names:
            result.append(coarse.id(c.name))
        else:
            raise LegendError(
                f"class {c.name} of legend {fine.name} has no place in {coarse.name}; "
                "its codes must lie in one class, or a class must name it in `members`"
            )
    return np.array(result, dtype=np.int64)
