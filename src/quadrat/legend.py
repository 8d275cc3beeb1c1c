"""Legends: land-use classes, their colours and source codes, and how one legend folds into another.

A legend is a TOML file; `nlcd8`, `nlcd6` and `nlcd3` ship. It does not know rasters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import choices, text
from quadrat.errors import InputError, LegendError
from quadrat.shown import shown

SHIPPED = choices.LEGENDS
DEFAULT = SHIPPED[0]
MOST_CLASSES = 32_767  # class ids are kept as int16
MASKED = -1  # where a class that the coarser legend ignores is folded to

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
        members: names that fold into this class where there are no codes: classes of a finer
            legend, folders of pictures.
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


@shown
@dataclass(frozen=True)
class Legend:
    """An ordered set of classes; a class's id is its place in it, from 0.

    Attributes:
        ignore: source codes of ground that has no class (open water in `nlcd6`): plots that are
            mostly such ground are masked, not mapped.
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
        """The id of the class `name`, upper or lower case; LegendError when there is none."""
        found = self._index.get(name)
        if found is not None:
            return found
        alike = text.match(name, self.names)
        if alike is None:
            raise LegendError(
                f"legend {self.name} has no class {text.shown(name)}; {text.near(name, self.names)}"
            )
        return self._index[alike]

    def place(self, name: str) -> int | None:
        """The id of the class that is called `name`, or has it among its members; None for none."""
        members = (i for i, c in enumerate(self.classes) if name in c.members)
        return self._index.get(name, next(members, None))

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
    if len(names) > MOST_CLASSES:
        raise LegendError(
            f"legend {legend.name} has {len(names):,} classes; give at most {MOST_CLASSES:,}"
        )
    for name in names:
        if not name or name in (".", "..") or re.search(r"[\x00-\x1f\ud800-\udfff/\\]", name):
            raise LegendError(
                f"legend {legend.name}: {name!r} is no class name; use text without slashes"
            )
    for c in legend.classes:
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", c.color):
            raise LegendError(
                f"legend {legend.name}: {c.color!r} of class {c.name} is no colour; use #rrggbb"
            )
    twice = sorted(n for n, count in Counter(names).items() if count > 1)
    if twice:
        raise LegendError(f"legend {legend.name} names a class twice: {', '.join(twice)}")
    members = Counter(m for c in legend.classes for m in set(c.members) | {c.name})
    shared = sorted(m for m, count in members.items() if count > 1)
    if shared:
        raise LegendError(
            f"legend {legend.name} folds {shared[0]!r} into two classes; name it in one `members`"
        )
    codes = Counter(
        [*legend.ignore, *legend.background, *(k for c in legend.classes for k in c.codes)]
    )
    again = sorted(k for k, count in codes.items() if count > 1)
    if again:
        raise LegendError(
            f"legend {legend.name} gives a code to two classes: {again}; each code has one place"
        )


def from_dict(data: Mapping[str, Any], where: str = "legend") -> Legend:
    """A legend from the plain values of a TOML or JSON file.

    Args:
        where: what the values came from, for error messages.
    """
    _keys(data, ("name", "title", "ignore", "background", "classes"), where)
    classes = data.get("classes")
    if "name" not in data or not isinstance(classes, list):
        raise LegendError(
            f"{where} is not a legend; it needs name and [[classes]] with name, color, codes"
        )
    return Legend(
        name=_word(data, "name", where),
        title=_word(data, "title", where),
        ignore=_codes(data, "ignore", where),
        background=_codes(data, "background", where),
        classes=tuple(_class(c, i, where) for i, c in enumerate(classes)),
    )


def _class(data: Any, place: int, where: str) -> LandClass:
    at = f"{where}: [[classes]] number {place + 1}"
    _keys(data, ("name", "color", "codes", "members"), at)
    if "name" not in data:
        raise LegendError(f"{at} has no name; give it one")
    members = data.get("members", [])
    if not isinstance(members, list) or not all(isinstance(m, str) for m in members):
        raise LegendError(
            f'{at}: members = {text.shown(members)} is no list of names; write ["Forest"]'
        )
    return LandClass(
        name=_word(data, "name", at),
        color=_word(data, "color", at) or CYCLE[place % len(CYCLE)],
        codes=_codes(data, "codes", at),
        members=tuple(members),
    )


def _keys(data: Any, known: Sequence[str], where: str) -> None:
    """LegendError unless `data` is a table with no other keys than those known."""
    if not isinstance(data, Mapping):
        raise LegendError(f"{where} is not a table of {', '.join(known)}")
    for key in data:
        if key not in known:
            raise LegendError(
                f"{where}: unknown key {text.shown(key)}; {text.near(str(key), known)}"
            )


def _word(data: Mapping[str, Any], key: str, where: str) -> str:
    value = data.get(key, "")
    if not isinstance(value, str):
        raise LegendError(f"{where}: {key} = {text.shown(value)} is no text; put it in quotes")
    return value


def _codes(data: Mapping[str, Any], key: str, where: str) -> tuple[int, ...]:
    """Whole numbers of 64 bits, as they are: text and fractions are not turned into codes."""
    values = data.get(key, [])
    if not isinstance(values, list):
        raise LegendError(f"{where}: {key} = {values!r} is no list; write {key} = [41, 42]")
    for value in values:
        if type(value) is not int or not -(2**63) <= value < 2**63:
            raise LegendError(
                f"{where}: {text.shown(value)} in {key} is no whole number; write it as 41"
            )
    return tuple(values)


def load_legend(name_or_path: str) -> Legend:
    """The legend `name_or_path`: a shipped one by name, or a TOML file by path.

    Raises:
        LegendError: there is none, or the file is not sound.
    """
    if name_or_path in SHIPPED:
        shipped = resources.files("quadrat.data").joinpath(f"{name_or_path}.toml")
        with resources.as_file(shipped) as path:
            return from_dict(text.read_toml(path), name_or_path)
    try:
        data = text.read_toml(Path(name_or_path))
    except FileNotFoundError:
        raise LegendError(
            f"no legend {name_or_path!r}; name a TOML file or one of {', '.join(SHIPPED)}"
        ) from None
    except InputError as error:
        raise LegendError(str(error)) from None
    return from_dict(data, name_or_path)


def from_names(names: Sequence[str], name: str = "folders") -> Legend:
    """A legend from class names alone (a folder of images per class), with safe colours."""
    return Legend(name, tuple(LandClass(n, CYCLE[i % len(CYCLE)]) for i, n in enumerate(names)))


def fold(fine: Legend, coarse: Legend) -> NDArray[np.int64]:
    """Class ids of `fine` -> class ids of `coarse`, shape (len(fine),) int64.

    A class folds into the coarse class that names it in `members`, that holds all its codes, or
    that has its name. A class whose codes `coarse` ignores is masked: -1. LegendError when a class
    has no place: a fold must lose nothing.
    """
    by_code = {k: i for i, c in enumerate(coarse.classes) for k in c.codes}
    result = []
    for c in fine.classes:
        places = {by_code.get(k, -1) for k in c.codes}
        place = coarse.place(c.name)
        if place is not None and (not c.codes or c.name in coarse.classes[place].members):
            result.append(place)
        elif len(places) == 1 and places != {-1}:
            result.append(places.pop())
        elif c.codes and set(c.codes) <= set(coarse.ignore):
            result.append(MASKED)
        else:
            raise LegendError(
                f"class {c.name} of legend {fine.name} has no place in {coarse.name}; "
                "its codes must lie in one class, or a class must name it in `members`"
            )
    return np.array(result, dtype=np.int64)
