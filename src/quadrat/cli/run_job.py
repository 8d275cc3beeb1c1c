"""quadrat run: a county from one file. The name `run` is taken in this package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from quadrat.cli import args, common, words

if TYPE_CHECKING:
    from quadrat.jobs import JobResult, JobStep

# step -> the kind of its folder for clean; "" for a folder that it does not know
KINDS = {"tile": "tiles", "train": "models", "score": "scores", "change": "change", "area": ""}


@common.verb(name="run")
@click.argument("job", metavar="JOB.toml")
@args.flag("dry-run", "Only say what would be done.")
@args.engine
def command(job: str, engine: args.EngineArgs, **options: Any) -> common.Answer:
    """Make a county from one file: tiles, model, change, maps, areas and a report.

    JOB.toml names labels and the imagery of one date or more. The plan is printed first. Stopped at
    any moment, the same command goes on where it was.
    """
    from quadrat.jobs import run

    with common.engine(engine) as made:
        result = run(
            job, engine=made, on_plan=lambda steps: common.echo(planned(steps), err=True),
            on_step=common.progress,
            on_run=lambda run: common.note("runs", run.tracking_uri, run.id), **options,
        )  # fmt: skip
    noted = [(KINDS.get(n, "files"), uri) for n in result.seconds for uri in result.made[n]]
    return common.Answer(result, described(result), tuple(n for n in noted if n[0]))


def planned(steps: Sequence[JobStep]) -> str:
    """The plan as a table."""
    rows = [[str(n), s.name, s.state, s.made[0]] for n, s in enumerate(steps, 1)]
    return words.table(["", "step", "state", "makes"], rows)


def described(result: JobResult) -> str:
    """What was made."""
    if result.report is None:
        todo = sum(state != "done" for state in result.states.values())
        return f"{todo} of {len(result.states)} steps to do"
    lines = [f"{name}: {seconds:,.1f} s" for name, seconds in result.seconds.items()]
    done = len(result.states) - len(lines)
    lines += [f"{done} steps were done before"] if done else []
    return "\n".join([*lines, f"open {result.report}"])
