"""quadrat fetch: a place's name -> NAIP imagery and NLCD labels, ready to cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from quadrat import choices
from quadrat.cli import args, common

if TYPE_CHECKING:
    from quadrat.fetching import Fetched, FetchedCover, Place
    from quadrat.fetching.plan import Plan

PLACE = ("county", "state", "bbox", "polygon", "boundaries", "boundary_year")
MB = 1_000_000


class Sources(click.Group):
    """The kinds of rasters; several years may follow one `--years`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The kind that is named first, and its arguments with `--years` before every year."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, found, spread(rest)


def spread(args: Sequence[str]) -> list[str]:
    """`--years 2010 2016` as `--years 2010 --years 2016`, which click understands."""
    result: list[str] = []
    option: str | None = None
    for arg in args:
        if arg in ("--years", "--year"):
            option = arg
            result.append(arg)
        elif option and arg.isdigit():
            result += [arg] if result[-1] == option else [option, arg]
        else:
            option = None
            result.append(arg)
    return result


# `--county` to `--boundary-year`, and `--years`.
place_options = args.in_order(
    click.option("--county", metavar="NAME", help='A county: "Middlesex, MA" or its GEOID.'),
    click.option("--state", metavar="NAME", help="A state: MA or Massachusetts."),
    click.option(
        "--bbox",
        type=float,
        nargs=4,
        default=None,
        metavar="W S E N",
        help="A rectangle: west, south, east, north, in degrees.",
    ),
    click.option("--polygon", metavar="FILE", help="A vector file; all of its polygons."),
    click.option(
        "--years",
        "--year",
        "years",
        type=int,
        multiple=True,
        required=True,
        metavar="YEAR...",
        help="One year or several.",
    ),
    click.option(
        "--boundaries",
        metavar="URL|FILE",
        help="The Census Bureau's boundary files, with {year} and {kind}.",
    ),
    args.option(
        "boundary-year",
        click.IntRange(2014, 2100),
        2023,
        "Their vintage (Connecticut has planning regions, not counties, since 2022).",
    ),
)


@click.group(cls=Sources)
def command() -> None:
    """Get NAIP imagery and NLCD labels for a place."""


@common.verb(command, "naip")
@place_options
@args.out("imagery", "The folder to write to: one subfolder a year.")
@args.flag("link", "Write links that read the remote images, no copies.")
@args.flag("dry-run", "Show what would be fetched, and its size.")
@args.option("workers", click.IntRange(1, 32), 4, "Files fetched at once.")
@args.option("stac", str, choices.STAC, "The STAC API to search.", metavar="URL")
@click.option(
    "--sas",
    metavar="URL",
    help="Token service that signs addresses; the Planetary Computer's for its own catalogue.",
)
@args.option("collection", str, "naip", "The catalogue's name of the imagery.")
@args.option("asset", str, "image", "The items' name of the image.")
def naip_(out: str, years: Sequence[int], **options: Any) -> common.Answer:
    """Fetch the fewest NAIP images that cover a place, for each year."""
    from quadrat import fetching

    unit = "links" if options["link"] else "MB"
    with common.progress("fetch naip", unit) as report:

        def tell(done: int, total: int) -> None:
            report(*((done, total) if options["link"] else (done // MB, -(-total // MB))))

        def show(plan: Plan) -> None:
            common.echo(plan.text(), err=True)

        place = _place(options)
        result = fetching.fetch_naip(place, years, out, on_plan=show, on_progress=tell, **options)
    return common.Answer(result, _fetched(result, options["sas"]))


@common.verb(command, "nlcd")
@place_options
@args.out("imagery", "The folder to write to: one raster a year.")
@args.flag("dry-run", "Look only; write nothing.")
@args.option(
    "service",
    str,
    choices.NLCD_SERVICE,
    "The Web Coverage Service (1.0.0) to cut from.",
    metavar="URL",
)
@args.option("coverage", str, choices.NLCD_COVERAGE, "The service's name of the land cover.")
@click.option(
    "--source",
    metavar="URL|FILE",
    help="A raster of NLCD codes to cut from instead, with {year} in its name.",
)
def nlcd_(out: str, years: Sequence[int], **options: Any) -> common.Answer:
    """Fetch Annual NLCD land cover of a place, one raster a year, as stored."""
    from quadrat import fetching

    with common.progress("fetch nlcd", "pixels") as report:
        place = _place(options)
        result = fetching.fetch_nlcd(place, years, out, on_progress=report, **options)
    return common.Answer(result, _cut(result))


def _place(options: dict[str, Any]) -> Place:
    """The place that the options name; takes them out of `options`."""
    from quadrat import fetching

    return fetching.find_place(**{k: options.pop(k) for k in PLACE})


def _fetched(result: Fetched, sas: str | None) -> str:
    if result.dry_run:
        return "nothing written (--dry-run)"
    from quadrat.fetching.plan import size_text

    kind = "links" if result.plan.link else "files"
    sized = "" if result.plan.link else f", {size_text(result.bytes)}"
    there = len(result.files) - result.written
    lines = [
        f"{result.out}: {len(result.files)} {kind} ({result.written} written{sized}; "
        f"{there} were there)"
    ]
    years = " ".join(f"{result.out.rstrip('/')}/{y.year}" for y in result.plan.years[:1])
    lines.append(f"next: quadrat tile {years} --within {result.out.rstrip('/')}/outline.geojson")
    if result.plan.link and sas:
        lines.append(f"to read these links, set VSICURL_PC_SAS_TOKEN_URL={sas.rstrip('/')}/")
    return "\n".join(lines)


def _cut(result: FetchedCover) -> str:
    width, height = result.pixels
    sized = f"{width:,} x {height:,} pixels from {result.source}"
    if result.dry_run:
        return f"{result.place.name}: {sized}, a year; nothing written (--dry-run)"
    there = len(result.files) - result.written
    lines = [f"{result.place.name}: {sized}, a year"]
    lines += result.files
    lines.append(f"{result.written} written; {there} were there")
    return "\n".join(lines)
