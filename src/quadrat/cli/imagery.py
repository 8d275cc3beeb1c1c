"""Options of how imagery is read, shared by the verbs that read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from quadrat.cli import common


class AlphaBand(click.ParamType):  # type: ignore[type-arg]
    """The number of a band, from 1, or `none`, which is 0 in the library."""

    name = "BAND|none"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """The band as a number."""
        if value == "none":
            return 0
        return click.IntRange(min=1).convert(value, param, ctx)


def _reading() -> tuple[Callable[[common.F], common.F], ...]:
    return (
        click.option(
            "--bands",
            type=click.IntRange(min=1),
            nargs=3,
            metavar="R G B",
            help="Numbers of the red, green and blue band, from 1; the file's own roles if not.",
        ),
        click.option("--nodata", type=float, help="Pixel value that means no data."),
        click.option(
            "--alpha",
            type=AlphaBand(),
            help="Band whose zeros mean no data, or none; the file's own alpha band if not.",
        ),
        click.option(
            "--stretch",
            type=float,
            nargs=2,
            metavar="LOW HIGH",
            help="Values mapped to 0 and 255, for imagery that is not 8-bit.",
        ),
    )


def reading_options(function: common.F) -> common.F:
    """Which pixels count, and what they mean: `--bands` to `--stretch`."""
    return common.with_options(_reading(), function)


def imagery_options(function: common.F) -> common.F:
    """How rasters are read: `--bands` to `--date`."""
    options = (
        click.option(
            "--resampling",
            type=click.Choice(common.RESAMPLINGS),
            default="bilinear",
            show_default=True,
            help="Kernel where imagery is not on the grid; shrinking averages areas.",
        ),
        click.option(
            "--max-nodata",
            type=click.FloatRange(0, 1),
            default=0.0002,
            show_default=True,
            help="Tiles with a larger share of nodata pixels are dropped (10 px of 224 x 224).",
        ),
        click.option(
            "--within", metavar="FILE", help="Polygons; only tiles with their centre inside."
        ),
        click.option("--date", help="Acquisition date, YYYY-MM-DD or YYYY."),
        click.option("--crs", help="CRS of the grid, in metres (EPSG:26917)."),
    )
    return common.with_options((*_reading(), *options), function)
