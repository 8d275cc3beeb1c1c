"""quadrat map: scores -> GeoTIFF, GeoPackage, PNG and GeoJSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from quadrat.cli import args, common, words

if TYPE_CHECKING:
    from quadrat.maps import MapResult


@common.verb()
@args.placed("scores", "scores")
@args.out("", "The GeoTIFF of classes, .tif; certainty and styles are written beside it.")
@click.option(
    "--shares",
    metavar="URI",
    help="Also write the classes' shares of the ground, a GeoTIFF of one band a class.",
)
@click.option(
    "--entropy", metavar="URI", help="Also write the entropy of the probabilities, a GeoTIFF."
)
@click.option(
    "--sets",
    metavar="URI",
    help="Also write how many classes each tile's conformal set has, a GeoTIFF.",
)
@click.option(
    "--distance",
    metavar="URI",
    help="Also write how unlike the training tiles each tile is, a GeoTIFF; above 1 is unlike.",
)
@click.option(
    "--gpkg",
    metavar="URI",
    help="Also write a styled GeoPackage: a polygon a tile, with class, certainty and shares.",
)
@args.flag("dissolve", "In the GeoPackage, adjoining tiles of one class are one polygon.")
@click.option(
    "--change",
    metavar="FOLDER",
    help="A change whose classes, and candidates to sign off, the GeoPackage has too.",
)
@click.option("--png", metavar="URI", help="Also draw a picture with legend, scale and title.")
@click.option(
    "--geojson", metavar="URI", help="Also write the tiles' outlines with class and certainty."
)
@args.coarser
@click.option(
    "--smooth",
    type=click.FloatRange(min=0),
    metavar="VOTES",
    help="A 3 x 3 plurality filter, with so many votes for the tile itself.",
)
@click.option("--title", help="Title of the picture.")
@args.option("limit", args.COUNT_OR_0, 100_000, "Most outlines that a GeoJSON may get.")
def command(scores: str, out: str, **options: Any) -> common.Answer:
    """Draw SCORES as a cloud-optimised GeoTIFF, one pixel a tile, with colours."""
    from quadrat import maps

    result = maps.map(scores, out, **options)
    made = tuple(("files", uri) for uri in result.files)
    return common.Answer(result, described(result), made)


def described(result: MapResult) -> str:
    """A map in words."""
    lines = [
        f"{result.uri}: {result.tiles:,} tiles, legend {result.legend}",
        f"classes: {words.counts_text(result.counts)}",
        f"certainty: {result.certainty}",
    ]
    for name in ("entropy", "sets", "distance", "shares"):
        uri = getattr(result, name)
        lines += [f"{name}: {uri}"] if uri else []
    if result.smoothed:
        lines.append(f"smoothing changed {result.smoothed:,} tiles")
    lines += [f"picture: {result.png}"] if result.png else []
    lines += [f"GeoPackage: {result.gpkg} ({', '.join(result.layers)})"] if result.gpkg else []
    lines += [f"outlines: {result.geojson}"] if result.geojson else []
    return "\n".join(lines)
