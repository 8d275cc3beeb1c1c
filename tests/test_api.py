"""The package as a Python user meets it: `import quadrat as qd`."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import quadrat as qd

ROOM = {**{verb: room for verb, (room, _) in qd.VERBS.items() if room}, **qd.NAMES}


@pytest.mark.parametrize("name", ROOM)
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    found = getattr(qd, name)
    assert found is getattr(importlib.import_module(f"quadrat.{ROOM[name]}"), name)
    assert inspect.getdoc(found)
    assert name in dir(qd)


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'quadrat' has no attribute 'tyle'"):
        qd.tyle  # noqa: B018
    assert not hasattr(qd, "fetch")  # a group of commands: fetch_naip, fetch_nlcd


def test_no_public_name_is_a_modules() -> None:
    """Importing a module would put it in the place of the function."""
    assert not set(ROOM) & {m.name for m in pkgutil.iter_modules(qd.__path__)}


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(qd.__file__).read_text("utf-8"))
    (block,) = [n for n in tree.body if isinstance(n, ast.If)]
    typed = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names:
            assert alias.asname == alias.name, "only `import x as x` is exported to users"
            typed[alias.name] = node.module.removeprefix("quadrat.")
    assert typed == ROOM


@pytest.mark.parametrize("name", ROOM)
def test_functions_take_at_most_five_positional_parameters(name: str) -> None:
    found = getattr(qd, name)
    if inspect.isfunction(found):
        kinds = [p.kind for p in inspect.signature(found).parameters.values()]
        assert kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) <= 5
