"""File systems: the right one for a URI, and its errors in our words. The only home of fsspec."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from quadrat import border, servers
from quadrat.errors import MissingExtraError, QuadratError, StorageError
from quadrat.redaction import redact
from quadrat.storage.uris import is_local, scheme_of

EXTRAS = {"s3": "s3", "s3a": "s3", "az": "azure", "abfs": "azure", "abfss": "azure", "adl": "azure"}

# Scheme -> the address of the server that its client talks to.
SERVERS: Mapping[str, Callable[[Any], str]] = {
    **dict.fromkeys(("s3", "s3a"), lambda client: str(client.s3.meta.endpoint_url)),
    **dict.fromkeys(
        ("az", "abfs", "abfss", "adl"), lambda client: str(client.service_client.primary_endpoint)
    ),
}
# object stores: what is put there is not seen before it is whole
ONE_PUT = ("s3", "s3a", "az", "abfs", "abfss", "adl", "gs", "gcs", "memory")


@contextmanager
def translated(uri: str, doing: str) -> Iterator[None]:
    """Turn what file systems raise into one line that names the file and the cure."""
    name = redact(uri)
    try:
        yield
    except QuadratError:
        raise
    except Exception as error:
        translated = border.translate(error, name, doing, StorageError)
        if translated is not None:
            raise translated from None
        if is_local(uri):
            raise
        # each remote file system has its own error tree; none may escape with its credentials
        raise StorageError(f"{doing} {name} failed: {border.short(error)}") from None


def filesystem(uri: str) -> Any:
    """The fsspec file system of a URI, whose server answers; StorageError otherwise."""
    import fsspec

    scheme = scheme_of(uri)
    try:
        # a listing that is remembered misses what another process or thread has written since
        options = {"use_listings_cache": False} if scheme in ONE_PUT else {}
        found = fsspec.filesystem(scheme if scheme != "https" else "http", **options)
    except ImportError:
        if scheme in EXTRAS:
            raise MissingExtraError(f"{scheme}:// storage", EXTRAS[scheme]) from None
        raise StorageError(f"no file system for {scheme}:// is installed; see fsspec") from None
    except ValueError as error:
        raise StorageError(f"{redact(uri)} cannot be opened: {border.short(error)}") from None
    if scheme in SERVERS:
        _check_answers(SERVERS[scheme](found))
    return found


@lru_cache(maxsize=64)
def _check_answers(server: str) -> None:
    """Ask each server once a process: a dead one keeps its client trying for minutes."""
    try:
        servers.check_answers(server)
    except OSError as error:
        raise StorageError(
            f"the store {redact(server)} does not answer ({border.short(error)}); check its "
            "address and the network"
        ) from None
