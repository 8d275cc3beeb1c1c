"""quadrat stac: products -> a static STAC catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from quadrat.cli import args, common

if TYPE_CHECKING:
    from quadrat.catalogues import StacResult


@common.verb()
@click.argument("sources", nargs=-1, required=True, metavar="PRODUCT...")
@args.out("", "Folder for the catalogue.")
@click.option("--title", help="Of the collection.")
@click.option("--description", help="Of the collection.")
@args.option("licence", str, "other", "Of the products, an SPDX identifier such as CC-BY-4.0.")
@click.option("--doi", help="How the products are to be cited: a DOI, such as 10.5281/zenodo.1.")
@click.option("--citation", help="How the products are to be cited, in words.")
@click.option("--date", metavar="DATE", help="Of products that do not know theirs.")
@args.overwrite
def command(sources: Sequence[str], out: str, **options: Any) -> common.Answer:
    """Write a static STAC catalogue of PRODUCTs.

    PRODUCTs are tile sets, scores, changes, models, and GeoTIFFs that `quadrat map` wrote.
    """
    from quadrat.catalogues import stac

    result = stac(sources, out, **options)
    return common.Answer(result, described(result), (("catalogue", out),))


def described(result: StacResult) -> str:
    """A catalogue in words."""
    return "\n".join([f"{result.uri}: {len(result.items):,} items", *result.items])
