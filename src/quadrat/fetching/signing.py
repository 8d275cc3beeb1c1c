"""Signed addresses: the Planetary Computer's shared access signatures, renewed before they expire.

Its assets lie in private containers; its token service (`GET .../token/<collection>`) gives anyone
a signature that holds for about an hour, which is appended to an asset's address. Values and
settings are the planetary-computer package's; the request itself goes through `http`. A signature
is kept in memory only, and is sent only to the hosts that it is for.
"""

from __future__ import annotations

import threading
import warnings
from typing import Any
from urllib.parse import quote, urlsplit

from quadrat.errors import FetchError, MissingExtraError
from quadrat.fetching import http
from quadrat.redaction import redact

BLOBS = ".blob.core.windows.net"
PUBLIC = "ai4edatasetspublicassets" + BLOBS  # holds thumbnails for everyone, unsigned
MARGIN_S = 60.0  # a signature with less than this left is not begun with


class Signer:
    """Signs addresses for one collection; does nothing when there is no token service.

    Args:
        service: address of the token service, such as
            https://planetarycomputer.microsoft.com/api/sas/v1/token; None for an open catalogue.
    """

    def __init__(self, client: http.Client, service: str | None, collection: str) -> None:
        self.client, self.service, self.collection = client, service, collection
        self._lock = threading.Lock()
        self._token: Any = None

    def covers(self, href: str) -> bool:
        """Whether this address is one to sign: Azure's stores, and the token service's own host."""
        if self.service is None:
            return False
        there = urlsplit(href)
        if there.netloc == PUBLIC:
            return False
        return there.netloc.endswith(BLOBS) or there.netloc == urlsplit(self.service).netloc

    def sign(self, href: str) -> str:
        """The address with a signature that holds for at least a minute."""
        if not self.covers(href):
            return href
        with self._lock:
            if self._token is None or self._token.ttl() < MARGIN_S:
                self._token = self._ask()
            return str(self._token.sign(href.split("?", 1)[0]).href)

    def renew(self, refused: str) -> bool:
        """Forget the signature of an address that was refused; whether trying again may help."""
        if not self.covers(refused):
            return False
        with self._lock:
            # another thread may have renewed it since
            if self._token is not None and refused.endswith(self._token.token):
                self._token = None
        return True

    def _ask(self) -> Any:
        import pydantic

        package = _package()
        settings = package.settings.Settings.get()
        # the user's key is for the Planetary Computer, not for whatever --sas names
        key = settings.subscription_key if self.service == settings.sas_url else None
        headers = {"Ocp-Apim-Subscription-Key": key} if key else None
        url = f"{str(self.service).rstrip('/')}/{quote(self.collection, safe='')}"
        answer = self.client.values(url, headers=headers)
        try:
            return package.sas.SASToken(**answer)
        except (TypeError, pydantic.ValidationError):
            # the text of a validation error shows the token
            raise FetchError(
                f"{redact(url)} gave no signature; check --sas (its answer has a token and an "
                "msft:expiry)"
            ) from None


def planetary_service() -> str:
    """The Planetary Computer's token service, or the one that PC_SDK_SAS_URL names."""
    return str(_package().settings.Settings.get().sas_url)


def _package() -> Any:
    try:
        with warnings.catch_warnings():
            # it defines its models in pydantic's old way
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            import planetary_computer.sas
            import planetary_computer.settings
    except ImportError:
        raise MissingExtraError("signing addresses", "fetch") from None
    return planetary_computer
