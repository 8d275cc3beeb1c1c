"""docs/cli.md is what the commands' own help says, docs/api.md what the docstrings say; every verb,
option and public name has its words."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import click
import pytest

import quadrat
from quadrat.cli import VERBS, api, cli
from quadrat.cli.reference import commands, reference

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"


def test_the_pages_are_current() -> None:
    assert PAGE.read_text("utf-8") == reference(), "run `make docs`"
    assert PAGE.with_name("api.md").read_text("utf-8") == api.reference() + "\n", "run `make docs`"


def test_every_parameter_of_a_public_function_is_described_or_known_by_its_name() -> None:
    """What several functions have, and mean alike, is said once at the head of the page."""
    for name in (*api.GROUPS["Verbs"], *api.GROUPS["Functions"]):
        function = getattr(quadrat, name)
        said = inspect.getdoc(function) or ""
        for parameter in set(inspect.signature(function).parameters) - {"client"}:
            assert re.search(rf"\b{parameter}\b", said + api.HEAD), f"{name}: {parameter}"


def test_every_verb_is_on_the_page() -> None:
    text = PAGE.read_text("utf-8")
    shown = cli.list_commands(click.Context(cli))
    assert shown
    for verb in shown:
        assert f"\n## quadrat {verb}\n" in text
    assert set(shown) <= set(VERBS)


@pytest.mark.parametrize(
    ("name", "command"), [pytest.param(n, c, id=n) for _, n, c, _ in commands()]
)
def test_every_command_and_option_has_its_words(name: str, command: click.Command) -> None:
    assert command.help and command.help[0].isupper()
    if isinstance(command, click.Group):
        return
    names = [p.name for p in command.params]
    assert {"as_json", "debug"} <= set(names)
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, f"{name} {param.opts[0]} has no help"
            assert param.help.endswith((".", "]")), f"{name} {param.opts[0]}: a sentence"
