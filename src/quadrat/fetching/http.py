"""Every HTTP request of `fetch`: retries, back-off, time limits, and no secret in any text.

The only home of requests, and the one place where an address becomes a name for GDAL's own reads.
It does not know STAC, NAIP or NLCD.

A request is tried again when the connection fails or the server answers 408, 429, 500, 502, 503 or
504: after the time that `Retry-After` asks for (RFC 9110, seconds or a date), or after a back-off
that doubles each time and is spread at random. Anything else is final.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import quadrat
from quadrat.errors import FetchError, MissingExtraError
from quadrat.redaction import redact

RETRIED = {408: "time-out", 429: "too many requests", 500: "server error", 502: "bad gateway",
           503: "unavailable", 504: "gateway time-out"}  # fmt: skip
CHUNK = 1 << 16  # most bytes of a download in memory, which a kill may cost


@dataclass(frozen=True)
class Policy:
    """How often and how long a client tries.

    Attributes:
        attempts: tries of one request before it is given up.
        base_s: seconds of the first wait; each further one doubles.
        longest_s: the longest wait of the back-off's own.
        patience_s: the longest wait that a server may ask for; beyond it the request is given up.
        connect_s, read_s: seconds without a connection, or without a byte, that count as a failure.
    """

    attempts: int = 7
    base_s: float = 0.5
    longest_s: float = 60.0
    patience_s: float = 300.0
    connect_s: float = 15.0
    read_s: float = 90.0


class AnswerError(FetchError):
    """A server's answer that is final; `status` is its HTTP status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class CutError(FetchError):
    """A connection that ended before its answer did."""


@dataclass(frozen=True)
class Response:
    """The head of an answer: status, and headers by lower-case name."""

    status: int
    headers: Mapping[str, str]

    @property
    def length(self) -> int | None:
        """Bytes of the whole thing: of `Content-Range`'s total in a partial answer."""
        total = re.fullmatch(r"bytes .*/(\d+)", self.headers.get("content-range", ""))
        text = total.group(1) if total else self.headers.get("content-length", "")
        return int(text) if text.isdigit() else None

    @property
    def start(self) -> int | None:
        """The first byte of a partial answer."""
        first = re.match(r"bytes (\d+)-", self.headers.get("content-range", ""))
        return int(first.group(1)) if first else None

    @property
    def etag(self) -> str | None:
        """The strong tag of this version; a weak one promises nothing about bytes."""
        tag = self.headers.get("etag", "")
        return None if not tag or tag.startswith("W/") else tag


class Client:
    """Sends requests by a policy; safe to use from several threads. A context manager."""

    def __init__(
        self, policy: Policy | None = None, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.policy = policy or Policy()
        self.sleep = sleep
        self._local = threading.local()
        self._sessions: list[Any] = []
        self._lock = threading.Lock()
        _requests()
        _quieten()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept open."""
        with self._lock:
            for session in self._sessions:
                session.close()
            self._sessions.clear()
            self._local = threading.local()

    def _session(self) -> Any:
        session = getattr(self._local, "session", None)
        if session is None:
            session = _requests().Session()
            session.headers["User-Agent"] = f"quadrat/{quadrat.__version__}"
            self._local.session = session
            with self._lock:
                self._sessions.append(session)
        return session

    def values(
        self,
        url: str,
        *,
        method: str = "GET",
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The values of a JSON answer; FetchError when it is none."""
        with self._send(method, url, params=params, json=body, headers=headers) as response:
            try:
                return response.json()
            except ValueError:
                raise FetchError(
                    f"{redact(url)} answered {response.headers.get('content-type', 'nothing')}, "
                    "not JSON; check the address"
                ) from None

    def whole(self, url: str, *, params: Mapping[str, Any] | None = None) -> tuple[Response, bytes]:
        """A whole answer in memory, for small ones."""
        with self._send("GET", url, params=params) as response:
            return _head(response), bytes(response.content)

    def head(self, url: str) -> Response:
        """The head of what a GET would bring."""
        with self._send("HEAD", url, headers={"Accept-Encoding": "identity"}) as response:
            return _head(response)

    @contextmanager
    def stream(
        self, url: str, *, headers: Mapping[str, str] | None = None, accept: tuple[int, ...] = ()
    ) -> Iterator[tuple[Response, Iterator[bytes]]]:
        """An answer's head and its bytes as they come, as stored (never re-encoded).

        The iterator raises CutError when the connection ends before the answer does.
        """
        wanted = {"Accept-Encoding": "identity", **(headers or {})}
        response = self._send("GET", url, headers=wanted, stream=True, accept=(200, 206, *accept))
        try:
            yield _head(response), _chunks(response, url)
        finally:
            response.close()

    def _send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        stream: bool = False,
        accept: tuple[int, ...] = (200,),
    ) -> Any:
        errors = _requests().exceptions
        policy = self.policy
        for attempt in range(1, policy.attempts + 1):
            asked: float | None = None
            try:
                response = self._session().request(
                    method, url, headers=headers, params=params, json=json, stream=stream,
                    timeout=(policy.connect_s, policy.read_s),
                )  # fmt: skip
            except (errors.InvalidURL, errors.MissingSchema, errors.InvalidSchema):
                raise FetchError(
                    f"{redact(url)} is no http:// or https:// address; check it"
                ) from None
            except errors.RequestException as error:
                reason = _reason(error)
            else:
                if response.status_code in accept:
                    return response
                asked = retry_after(response.headers.get("retry-after"))
                status, detail = response.status_code, _detail(response)
                response.close()
                if status not in RETRIED:
                    raise AnswerError(
                        f"{redact(url)} answered {status}{detail}; {_cure(status)}", status
                    )
                reason = f"answered {status} ({RETRIED[status]})"
            if asked is not None and asked > policy.patience_s:
                raise FetchError(
                    f"{host(url)} asks to wait {asked / 60:.0f} minutes; run the same command "
                    "again then (finished files are kept)"
                )
            if attempt < policy.attempts:
                self.sleep(asked if asked is not None else self.wait(attempt))
        raise FetchError(
            f"{redact(url)} {reason}, {policy.attempts} times; check the network and run the same "
            "command again (finished files are kept)"
        )

    def wait(self, attempt: int) -> float:
        """Seconds to wait after the failure number `attempt` (from 1)."""
        policy = self.policy
        longest = min(policy.longest_s, policy.base_s * 2 ** (attempt - 1))
        # spread, so that many clients that failed together do not come back together
        return float(longest * random.uniform(0.5, 1.0))


def gdal_name(href: str, collection: str | None) -> str:
    """The name by which GDAL reads windows of a remote file, with no secret in it.

    With a collection, GDAL itself asks the Planetary Computer's token service (or the one that the
    configuration option VSICURL_PC_SAS_TOKEN_URL names) for that collection's signature, and
    renews it before it expires (GDAL's documentation of /vsicurl/, `pc_url_signing`).
    """
    if collection is None:
        return f"/vsicurl/{href}"
    return (
        f"/vsicurl?pc_url_signing=yes&pc_collection={quote(collection, safe='')}"
        f"&url={quote(href, safe='')}"
    )


def host(url: str) -> str:
    """The server of an address, for messages."""
    return urlsplit(url).netloc.rsplit("@", 1)[-1] or url


def retry_after(text: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for (a number or an HTTP date); None for none."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        return Retry().parse_retry_after(text) if text else None
    except InvalidHeader:
        return None


def _requests() -> Any:
    try:
        import requests
    except ImportError:
        raise MissingExtraError("fetching imagery", "fetch") from None
    return requests


def _head(response: Any) -> Response:
    return Response(response.status_code, {k.lower(): v for k, v in response.headers.items()})


def _chunks(response: Any, url: str) -> Iterator[bytes]:
    from urllib3.exceptions import HTTPError

    try:
        # what one read of the socket gives: waiting for a full chunk would lose it to a cut
        while piece := response.raw.read1(CHUNK, decode_content=False):
            yield piece
    except HTTPError as error:
        raise CutError(f"{redact(url)} {_reason(error)}") from None


def _reason(error: Exception) -> str:
    name = type(error).__name__
    if "Timeout" in name:
        return "did not answer in time"
    if "SSL" in name:
        return "has a certificate that cannot be trusted"
    if "ChunkedEncoding" in name or "ContentDecoding" in name:
        return "ended in the middle of an answer"
    if "IncompleteRead" in str(error):
        return "ended in the middle of an answer"
    return "cannot be reached"


def _detail(response: Any) -> str:
    """What the server says about its refusal, in a few words and without its HTML."""
    try:
        text = response.content[:4000].decode("utf-8", "replace")
    except Exception:  # noqa: BLE001 - the body is only for the message; any failure means "none"
        return ""
    words = r"<Code>([^<]{1,60})</Code>|\"(?:detail|message|description)\":\s*\"([^\"]{1,150})"
    code = re.search(words, text)
    return f" ({redact(code.group(1) or code.group(2))})" if code else ""


def _cure(status: int) -> str:
    cures = {
        401: "access needs a key or a signature; check --sas and PC_SDK_SUBSCRIPTION_KEY",
        403: "access is refused; check --sas and that the collection is public",
        404: "nothing is there; check the address",
    }
    return cures.get(status, "check the request and the service")


class _NoSecrets(logging.Filter):
    """Takes signatures out of the addresses that urllib3 writes at debug level."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        return True


def _quieten() -> None:
    logger = logging.getLogger("urllib3.connectionpool")
    if not any(isinstance(f, _NoSecrets) for f in logger.filters):
        logger.addFilter(_NoSecrets())
