"""Writes `docs/cli.md` from the commands' own help: `python -m quadrat.cli.reference`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from quadrat.cli import cli

HEAD = """# The command line

Written by `make docs` from what `--help` says; a test keeps it so. Every verb takes `--json` (the
result for scripts, and nothing else on stdout) and `--debug` (the traceback of an error). Exit
codes: 0 done, 1 failed with one line that says the cure, 2 wrong usage, 130 stopped.

## Defaults

`quadrat.toml` in the working folder (or the file that `QUADRAT_CONFIG` names) and `QUADRAT_*`
variables set defaults; the command line comes before the environment, and that before the file.

| key | variable | meaning |
|---|---|---|
| `tiles`, `models`, `scores` | `QUADRAT_TILES`, ... | folders (any URI) in which bare names lie |
| `tracking_uri` | `QUADRAT_TRACKING_URI` | the run history; `quadrat-work/runs.db` when not set |
| `engine` | `QUADRAT_ENGINE` | `local` or `spark` |
| `master` | `QUADRAT_MASTER` | Spark's master |
| `legend` | `QUADRAT_LEGEND` | `nlcd8`, `nlcd6`, `nlcd3` or a TOML file |
| `cache` | `QUADRAT_CACHE` | the folder of cached features and graphs |
| `workers` | `QUADRAT_WORKERS` | parts worked on at once |

A bare name has no slash and no dot: with `models = "s3://box/models"`, `quadrat score lite0 ...`
reads `s3://box/models/lite0`. An unknown key or variable is an error.
"""
WIDTH = 90


def reference() -> str:
    """The whole page, Markdown."""
    pages = [HEAD]
    for level, name, command, ctx in commands():
        pages.append(f"{'#' * level} quadrat {name}\n\n```\n{command.get_help(ctx)}\n```\n")
    return "\n".join(pages)


def commands() -> Iterator[tuple[int, str, click.Command, click.Context]]:
    """Every verb, and every command of a verb that is a group: heading level, name, command."""
    root = _context(cli, "quadrat", None)
    for verb in cli.list_commands(root):
        command = cli.get_command(root, verb)
        if command is None:
            continue
        ctx = _context(command, verb, root)
        yield 2, verb, command, ctx
        if isinstance(command, click.Group):
            for name in command.list_commands(ctx):
                inner = command.commands[name]
                yield 3, f"{verb} {name}", inner, _context(inner, name, ctx)


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    # one width everywhere, so that the page does not depend on the terminal
    return click.Context(
        command,
        info_name=name,
        parent=parent,
        max_content_width=WIDTH,
        terminal_width=WIDTH,
    )


if __name__ == "__main__":
    click.echo(reference(), nl=False)
