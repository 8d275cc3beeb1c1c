"""Texts without secrets: the one function that every message, log line and record goes through.

It knows addresses (`scheme://user:password@host/path?query`) and `name=value` pairs, and nothing of
storage or services.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

HIDDEN = "..."

# Before an @ these have a part of the place (a container, a folder), and a user only with a colon.
NAMES_BEFORE_AT = frozenset(
    ("abfs", "abfss", "adl", "az", "gs", "memory", "s3", "s3a", "tar", "wasb", "wasbs", "zip")
)
ON_DISK = frozenset(("file", "local", "sqlite"))  # a path follows, in which ? and # are letters

_WORDS = (
    r"(?:signature|token|secret|passw(?:or)?d|passphrase|credential|"
    r"(?:access|account|api|private|shared|subscription)[_.-]?key|"
    r"(?:(?<=[._-])|(?<![\w.-]))(?:key|sas|sig|pwd)(?![A-Za-z0-9]))"
)
_ENCODED = re.compile(r"[A-Za-z][\w+.-]*%3A%2F%2F[^\s'\"<>&]*", re.IGNORECASE)
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^\s'\"<>]*)")
_QUERY = re.compile(rf"\?(?=[^\s'\"<>]*{_WORDS}[\w.-]*=)[^\s'\"<>]*", re.IGNORECASE)
# not after a slash: `key=5` is a folder of partitioned tables too
_PAIR = re.compile(
    rf"(?<![\w/.%-])([\w.-]*?{_WORDS}[\w.-]*(?:=|%3D))(?:'[^']*'|\"[^\"]*\"|(?:(?!%26)[^\s&;'\"<>])+)",
    re.IGNORECASE,
)
_QUOTED = re.compile(
    rf"(?P<a>['\"])([\w.-]*?{_WORDS}[\w.-]*)(?P=a)(\s*:\s*)(?P<b>['\"]).*?(?P=b)", re.IGNORECASE
)
_HEADER = re.compile(
    r"\b(authorization['\"]?\s*[:=]\s*['\"]?(?:(?:basic|bearer|digest|token)\s+)?+|bearer\s+)"
    r"[\w.~+/=-]{4,}",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """The text with nothing in it that may be secret.

    Of each address the user, the password, the query and the fragment are left out, whatever its
    scheme (also within GDAL's `/vsicurl/` and fsspec's chains). Values of passwords, keys, tokens
    and signatures (`password=...`, `AccountKey=...`, `"token": "..."`, authorization headers)
    become `...`. Paths of this machine stay as they are. Redacting twice changes nothing more.
    """
    text = _ENCODED.sub(lambda m: unquote(m[0]), text)
    text = _ADDRESS.sub(lambda m: f"{m[1]}://{_bare(m[1].lower(), m[2])}", text)
    text = _QUERY.sub("", text)
    text = _PAIR.sub(rf"\1{HIDDEN}", text)
    text = _QUOTED.sub(rf"\g<a>\2\g<a>\3\g<b>{HIDDEN}\g<b>", text)
    return _HEADER.sub(rf"\1{HIDDEN}", text)


def _bare(scheme: str, rest: str) -> str:
    """What follows `scheme://`, without user, password, query and fragment."""
    if "::" in rest:  # of fsspec: `zip://a.tif::https://host/a.zip`
        first, others = rest.split("::", 1)
        return f"{_bare(scheme, first)}::{redact(others)}"
    if scheme in ON_DISK:
        return rest
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        user, _ = authority.rsplit("@", 1)
        if ":" in user or scheme not in NAMES_BEFORE_AT:
            rest = rest[len(user) + 1 :]
    elif "@" in rest and re.search(r":(?!\d{1,5}$|\])[^\[\]]*$", authority):
        rest = rest.split("@", 1)[1]  # the password has a slash, a ? or a #
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    return redact(rest) if "://" in rest else rest
