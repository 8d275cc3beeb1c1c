"""The command line: `quadrat VERB ...`. One file a verb: parse, one library call, print.

The verbs are those of `quadrat.VERBS`; this module knows how failures are shown. It loads a verb's
module only when that verb is called, so that `quadrat --help` is quick.

Exit codes: 0 done; 1 failed, with one line on stderr; 2 wrong usage; 130 stopped by the user.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import os
import sys
import traceback
from collections.abc import Sequence

import click

import quadrat
from quadrat import VERBS, border
from quadrat.redaction import redact
from quadrat.text import nearest, printable

STOPPED = "stopped; run again to resume"
DEFECT = "this is a defect; --debug shows the traceback"


class Verbs(click.Group):
    """The group of all verbs; a verb whose module is not installed is not shown."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs whose modules are installed, in the order of the table."""
        return [verb for verb in VERBS if importlib.util.find_spec(_module(verb))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a verb, whose module is loaded now; None for no verb."""
        if cmd_name not in VERBS or not importlib.util.find_spec(_module(cmd_name)):
            return None
        command = importlib.import_module(_module(cmd_name)).command
        if not isinstance(command, click.Command):
            raise TypeError(f"{_module(cmd_name)}.command is no click command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is named first; for an unknown name the error has the nearest verb."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            known = self.list_commands(ctx)
            near = nearest(args[0], known)
            cure = f"did you mean {near}?" if near else f"choose one of {', '.join(known)}"
            ctx.fail(f"no verb {args[0]!r}; {cure}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs from the table: listing them must not load their modules."""
        rows = [(verb, VERBS[verb][1]) for verb in self.list_commands(ctx)]
        if rows:
            with formatter.section("Verbs"):
                formatter.write_dl(rows)


def _module(verb: str) -> str:
    # `run` is a function of this package already
    return f"{__name__}.{'run_job' if verb == 'run' else verb}"


@click.group(cls=Verbs, subcommand_metavar="VERB ...")
@click.version_option(quadrat.__version__, prog_name="quadrat")
def cli() -> None:
    """Land use and its change from aerial imagery.

    Defaults come from quadrat.toml in the working folder and from QUADRAT_* variables.
    """


def run(args: Sequence[str]) -> int:
    """Run one command line and give its exit code; no error leaves it."""
    try:
        code = cli.main(list(args), prog_name="quadrat", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        _show_usage(error, args)
        return error.exit_code  # 2 for wrong usage
    except (click.Abort, KeyboardInterrupt):
        _show(STOPPED, args)
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`quadrat ... | head`): nothing to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - the last place where a defect can be told in words
        known = border.translate(error)
        text = (
            one_line(known)
            if known
            else f"{type(error).__name__}: {redact(one_line(error))} ({DEFECT})"
        )
        _show(f"Error: {text}", args)
        return 1


def main() -> None:
    """The console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal of another encoding is no error
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def one_line(error: BaseException) -> str:
    """An error's text on one line."""
    return " ".join(str(error).split())


def _show(text: str, args: Sequence[str]) -> None:
    """Say why it ended: words on stderr, and `{"error": ...}` on stdout for scripts."""
    options = _flags(args)
    if "--debug" in options and text is not STOPPED:
        print(printable(redact(traceback.format_exc())), file=sys.stderr)  # noqa: T201
    if "--json" in options:
        print(json.dumps({"error": text.removeprefix("Error: ")}))  # noqa: T201
    print(printable(text), file=sys.stderr, flush=True)  # noqa: T201


def _show_usage(error: click.ClickException, args: Sequence[str]) -> None:
    if "--json" in _flags(args):
        print(json.dumps({"error": error.format_message()}))  # noqa: T201
    shown = io.StringIO()
    error.show(shown)
    print(printable(shown.getvalue()), end="", file=sys.stderr)  # noqa: T201


def _flags(args: Sequence[str]) -> list[str]:
    """The arguments before `--`: read here too, because a line that fails to parse sets nothing."""
    return list(args[: args.index("--")] if "--" in args else args)
