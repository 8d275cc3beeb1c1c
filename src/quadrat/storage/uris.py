"""URIs as text: local paths and addresses, joined and taken apart. It opens nothing."""

from __future__ import annotations

import os
import re
from os.path import abspath
from pathlib import Path

from quadrat import border
from quadrat.errors import StorageError
from quadrat.redaction import redact

SEPARATORS = os.sep + (os.altsep or "")  # between the names of a path: both slashes on Windows
_DRIVE = re.compile(r"/[A-Za-z]:(?:[/\\]|$)")


def scheme_of(uri: str) -> str:
    """The scheme of a URI in small letters; "file" for a plain path."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", uri)
    return match.group(1).lower() if match else "file"


def is_local(uri: str) -> bool:
    """Whether the URI is a path on this machine."""
    return scheme_of(uri) in ("file", "local")


def local_path(uri: str) -> Path:
    """The path of a local URI; StorageError for any other."""
    if not is_local(uri):
        raise StorageError(f"{redact(uri)} is not on this machine; give a local path")
    text = re.sub(r"^(file|local)://", "", uri)
    if "\0" in text:
        raise StorageError(f"{text!r} holds a NUL byte; use another name")
    with border.translated(repr(text), kind=StorageError):
        os.fsencode(text)  # text of JSON may be no file name at all
        if "\\" in SEPARATORS and _DRIVE.match(text):
            text = text[1:]  # file:///C:/folder
        return Path(text).expanduser() if text.startswith("~") else Path(text)


def normalise(uri: str) -> str:
    """An absolute form: the same place has the same text in every folder and process."""
    return str(abspath(local_path(uri))) if is_local(uri) else uri.rstrip("/")  # noqa: PTH100


def join(uri: str, *names: str) -> str:
    """A URI below another."""
    if is_local(uri):
        return str(local_path(uri).joinpath(*names))
    return "/".join([uri.rstrip("/"), *names])


def basename(uri: str) -> str:
    """The last name of a URI, without a query."""
    if is_local(uri):
        return re.split(f"[{re.escape(SEPARATORS)}]", uri.rstrip(SEPARATORS))[-1]
    return redact(uri).rstrip("/").rsplit("/", 1)[-1]


def parent(uri: str) -> str:
    """The folder that holds a URI."""
    if is_local(uri):
        return str(local_path(uri).parent)
    return uri.rstrip("/").rsplit("/", 1)[0]
