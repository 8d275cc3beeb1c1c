"""quadrat clean: what was made in this working folder, and taking it away."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from quadrat import choices
from quadrat.cli import args, common, words

if TYPE_CHECKING:
    from quadrat.workspace import Cleaned, WorkspaceItem


@common.verb()
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(choices.MADE),
    help="Only this kind of thing; repeat.",
)
@args.flag("dry-run", "List it with sizes, and delete nothing.")
@args.flag("yes", "Delete without asking.")
def command(only: Sequence[str], dry_run: bool, yes: bool) -> common.Answer:
    """List what was made in this working folder, with sizes, and delete it after a yes.

    Only what quadrat-work/made.jsonl notes is listed, and only files that Quadrat writes are
    deleted: other files stay, and so does the folder that they are in. The cache is shared by all
    of a user's working folders, and is made again when it is needed.
    """
    from quadrat.workspace import Cleaned, clean, inventory

    if not dry_run:
        items = inventory(only=only)
        if not items or not (yes or _agreed(items)):
            return common.Answer(Cleaned(items, deleted=False), "nothing deleted")
    with common.progress("clean", "files") as report:
        result = clean(only=only, dry_run=dry_run, on_progress=report)
    return common.Answer(result, _described(result))


def _agreed(items: Sequence[WorkspaceItem]) -> bool:
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is there to ask; say --yes to delete, or --dry-run to list")
    common.echo(_table(items), err=True)
    return click.confirm(f"Delete all of this ({_size(sum(i.bytes for i in items))})?", err=True)


def _described(result: Cleaned) -> str:
    if not result.items:
        return "nothing was made here"
    if not result.deleted:
        return f"{_table(result.items)}\n{_size(result.bytes)} in all; nothing deleted"
    lines = [f"deleted {_size(result.bytes)} in {len(result.items):,} things"]
    lines += [f"kept {uri}: {reason}" for uri, reason in result.kept]
    lines += [
        f"kept {i.uri}: it holds {', '.join(i.foreign[:3])}" for i in result.items if i.foreign
    ]
    return "\n".join(lines)


def _table(items: Sequence[WorkspaceItem]) -> str:
    rows = [
        [i.kind, _size(i.bytes), f"{len(i.files):,}", f"{i.uri} {i.run}" if i.run else i.uri]
        for i in items
    ]
    return words.table(("kind", "size", "files", "where"), rows)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
