"""Links: VRT files that `fetch --link` wrote in place of remote images, known by their digest.

The record beside a link holds the SHA-256 of its text. A VRT without such a record, or with another
text, is no link, whatever it is called.
"""

from __future__ import annotations

import re
from xml.sax.saxutils import unescape

from quadrat import storage
from quadrat.errors import StorageError

RECORD = ".quadrat.json"  # ending of the record beside a fetched raster
DIGEST = "link"  # its key for the digest of a link's text
MOST_BYTES = 1 << 20
REMOTE = re.compile(r"/vsicurl(/https?://|\?[^<]*url=https?)")


def is_link(uri: str) -> bool:
    """Whether `fetch --link` wrote the file as it is."""
    return target(uri) is not None


def target(uri: str) -> str | None:
    """The name by which GDAL opens the image that a link stands for; None for no link."""
    if not storage.redact(uri).lower().endswith(".vrt") or uri.startswith("/vsi"):
        return None
    try:
        if not storage.exists(uri + RECORD):
            return None
        known = storage.read_json(uri + RECORD)
        text = storage.read_bytes(uri, MOST_BYTES)
    except StorageError:
        return None  # no VRT, or none that can be read: opening it says so
    if not isinstance(known, dict) or known.get(DIGEST) != storage.digest_bytes(text):
        return None
    names = set(re.findall(r"<SourceFilename[^>]*>([^<]*)</SourceFilename>", text.decode()))
    name = unescape(names.pop()) if len(names) == 1 else ""
    return name if REMOTE.match(name) else None
