"""Imagery and labels from a place's name: NAIP and NLCD by county, state, rectangle or polygon.

The only home of STAC clients. It does not know tiles or models: it leaves rasters in a folder, each
with a record of where it comes from, and the outline of the place.

    names       counties and states as people write them
    places      a place's outline; the Census Bureau's boundaries
    http        every request: retries, back-off, no secrets
    signing     signed addresses of the Planetary Computer
    stac        searching a STAC API
    cover       the smallest set of images that covers a place
    plan        what is to be fetched, in words
    download    resumable, checked downloads
    link        VRTs that read remote COGs
    wcs         Web Coverage Services
    record      what is known of a fetched raster
    folder      the folder that they lie in
    imagery     `fetch_naip`: the whole for imagery
    landcover   `fetch_nlcd`: the whole for labels

These two are `quadrat fetch naip` and `quadrat fetch nlcd`.
"""

from quadrat.fetching.imagery import Fetched, fetch_naip
from quadrat.fetching.landcover import FetchedCover, fetch_nlcd
from quadrat.fetching.places import Place, find_place, read_outline
from quadrat.fetching.record import read_record

__all__ = [
    "Fetched",
    "FetchedCover",
    "Place",
    "fetch_naip",
    "fetch_nlcd",
    "find_place",
    "read_outline",
    "read_record",
]
