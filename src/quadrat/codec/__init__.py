"""Tiles as bytes, without loss, and picture files as pixels. It does not know tile sets.

pictures    PNG, JPEG and TIFF files of any layout: read, or refused by what they are
png         the common PNG, faster
encodings   how tile sets keep their pixels
"""

from quadrat.codec.encodings import ENCODINGS, Encoding, decode, get_encoding
from quadrat.codec.pictures import MAX_BYTES, MAX_SIDE, SUFFIXES, Chip, read_image, resize

__all__ = [
    "ENCODINGS",
    "MAX_BYTES",
    "MAX_SIDE",
    "SUFFIXES",
    "Chip",
    "Encoding",
    "decode",
    "get_encoding",
    "read_image",
    "resize",
]
