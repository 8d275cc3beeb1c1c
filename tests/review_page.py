"""A review that is served in this process, for tests of its page."""

from __future__ import annotations

import http.client
import json
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import quadrat as qd
from quadrat.errors import QuadratError


class Page:
    """A review that is being served, as its page sees it."""

    def __init__(self, sample: Path, **options: Any) -> None:
        self.result: Any = None
        told: list[str] = []
        known = threading.Event()

        def address(url: str) -> None:
            told.append(url)
            known.set()

        def serve() -> None:
            try:
                self.result = qd.review(str(sample), on_address=address, **options)
            except QuadratError as error:
                self.result = error
                known.set()

        self.thread = threading.Thread(target=serve)
        self.thread.start()
        assert known.wait(30)
        if not told:
            raise self.result
        self.url = told[0]
        self.host = urlsplit(self.url).netloc
        self.path = urlsplit(self.url).path

    def ask(
        self, path: str, body: Any = None, *, method: str | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content of an answer; a path from `/` on is not below the token."""
        connection = http.client.HTTPConnection(self.host, timeout=30)
        data = None if body is None else json.dumps(body)
        sent = {"Content-Type": "application/json"} | {
            k.replace("_", "-"): v for k, v in headers.items()
        }
        how = method or ("GET" if body is None else "POST")
        connection.request(how, path if path.startswith("/") else self.path + path, data, sent)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, content

    def json(self, path: str, body: Any = None) -> Any:
        status, _, content = self.ask(path, body)
        assert status == 200, content
        return json.loads(content)

    def end(self) -> Any:
        self.ask("api/end", {})
        self.thread.join(30)
        assert not self.thread.is_alive()
        return self.result
