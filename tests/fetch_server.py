"""Local servers that speak the protocols of the services that `quadrat fetch` uses, on loopback.

One HTTP server plays all of them, by path:

    /api/stac/v1            a STAC API: landing page, collection, search with paging (POST bodies
                            in its `next` links, as the Planetary Computer's has them)
    /api/sas/v1/token/...   its token service: signatures that expire
    /naip/...               blob storage: signed addresses only, ranges, strong ETags, Content-MD5
    /geoserver/wcs          a Web Coverage Service 1.0.0 with a time axis, as GeoServer answers
    /cog/...                unsigned files with ranges (an NLCD COG)
    /geo/tiger/...          Census boundary files

Every request is noted with the bytes that were sent. Faults are planned per path. The imagery is
what the caller gives it: the synthetic county, cut into overlapping quarter-quads.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import re
import secrets
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import rasterio
from rasterio.io import MemoryFile
from shapely.geometry import box, shape

STAC, SAS = "/api/stac/v1", "/api/sas/v1/token"
WCS = "/geoserver/wcs"
COVERAGE = "mrlc:Land-Cover"


@dataclass
class Request:
    """One request, as it was answered."""

    method: str
    path: str
    query: str
    range: str | None
    status: int = 0
    sent: int = 0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Fault:
    """What goes wrong with one request: a status, or the body cut after `cut` bytes."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    close_at_once: bool = False


class FetchServer:
    """The servers, and what they saw."""

    def __init__(self) -> None:
        self.files: dict[str, Path] = {}  # path -> file
        self.items: list[dict[str, Any]] = []
        self.coverages: dict[int, Path] = {}  # year -> raster of codes
        self.coverage_shift = 0.0  # metres by which the WCS resamples, when it misbehaves
        self.coverage_error: str | None = None
        self.page = 3
        self.token_s = 3600.0
        self.bytes_per_s: float | None = None
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.requests: list[Request] = []
        self.tokens: dict[str, float] = {}  # signature -> when it expires
        self.refused_tokens = 0
        self.conforms = True
        self.send_md5 = True
        self._lock = threading.Lock()
        self._md5: dict[str, str] = {}
        server = self

        class Handler(_Handler):
            owner = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    stac = property(lambda self: self.url + STAC)
    sas = property(lambda self: self.url + SAS)
    wcs = property(lambda self: self.url + WCS)
    boundaries = property(lambda self: self.url + "/geo/tiger/cb_{year}_us_{kind}_500k.zip")

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def clear(self) -> None:
        """Forget what was seen and planned."""
        with self._lock:
            self.requests.clear()
            self.faults.clear()

    def seen(self, prefix: str, method: str | None = None) -> list[Request]:
        """Requests below a path."""
        with self._lock:
            return [r for r in self.requests
                    if r.path.startswith(prefix) and method in (None, r.method)]  # fmt: skip

    def note(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)

    def fault(self, path: str) -> Fault | None:
        with self._lock:
            planned = self.faults.get(path)
            return planned.pop(0) if planned else None

    def token(self) -> dict[str, str]:
        """A new signature, in the form of the Planetary Computer's."""
        now = time.time()
        until = now + self.token_s
        sig = base64.urlsafe_b64encode(secrets.token_bytes(24)).decode().rstrip("=")
        with self._lock:
            self.tokens[sig] = until

        def stamp(t: float) -> str:
            return datetime.datetime.fromtimestamp(t, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

        text = (
            f"st={stamp(now - 60)}&se={stamp(until)}&sp=rl&sv=2021-06-08&sr=c&skoid=local&sig={sig}"
        ).replace(":", "%3A")
        return {"msft:expiry": stamp(until), "token": text}

    def valid(self, query: str) -> bool:
        sig = parse_qs(query).get("sig", [""])[0]
        with self._lock:
            return self.tokens.get(sig, 0.0) > time.time()

    def md5(self, path: str) -> str:
        version = self.etag(path)
        if version not in self._md5:
            digest = hashlib.md5(self.files[path].read_bytes(), usedforsecurity=False).digest()
            self._md5[version] = base64.b64encode(digest).decode()
        return self._md5[version]

    def etag(self, path: str) -> str:
        stat = self.files[path].stat()
        return f'"0x{stat.st_size:X}{stat.st_mtime_ns:X}"'

    def search(self, body: dict[str, Any]) -> dict[str, Any]:
        """Items by collection, geometry and time, a page at a time."""
        area = shape(body["intersects"]) if "intersects" in body else box(*body["bbox"])
        start, end = (body.get("datetime") or "../..").split("/")
        found = [
            i for i in self.items
            if i["collection"] in body.get("collections", [i["collection"]])
            and (i.get("geometry") is None or shape(i["geometry"]).intersects(area))
            and (start == ".." or i["properties"]["datetime"] >= start[:10])
            and (end == ".." or i["properties"]["datetime"][:10] <= end[:10])
        ]  # fmt: skip
        first = int(str(body.get("token", "next:0")).split(":")[1])
        size = min(self.page, int(body.get("limit", 10)))
        links = [{"rel": "root", "href": self.stac, "type": "application/json"}]
        if first + size < len(found):
            links.append({
                "rel": "next", "type": "application/geo+json", "method": "POST",
                "href": f"{self.stac}/search", "body": {**body, "token": f"next:{first + size}"},
            })  # fmt: skip
        return {
            "type": "FeatureCollection", "features": found[first : first + size], "links": links,
        }  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FetchServer

    def setup(self) -> None:
        # what is counted as sent is not far ahead of what was received
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)
        super().setup()

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else b""
        self.request_ = Request(
            self.command, parts.path, parts.query, self.headers.get("Range"),
            headers={k.lower(): v for k, v in self.headers.items()},
        )  # fmt: skip
        self.owner.note(self.request_)
        self.planned = self.owner.fault(parts.path)
        if self.planned and self.planned.close_at_once:
            self.close_connection = True
            return
        if self.planned and self.planned.status:
            text = b"<?xml version='1.0'?><Error><Code>ServerBusy</Code></Error>"
            self._send(self.planned.status, text, {"Content-Type": "application/xml",
                                                   **self.planned.headers})  # fmt: skip
            return
        routes: list[tuple[str, Callable[[str, str], None]]] = [
            (STAC, self._stac), (SAS, self._sas), ("/naip/", self._blob), (WCS, self._wcs),
            ("/cog/", self._file), ("/geo/tiger/", self._file),
        ]  # fmt: skip
        for prefix, handler in routes:
            if parts.path.startswith(prefix):
                handler(parts.path, parts.query)
                return
        self._send(404, b"not found")

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.request_.status = status
        self.send_response(status)
        for k, v in (headers or {}).items():
            self.send_header(k, v)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self._write(body)

    def _json(self, value: Any, kind: str = "application/json") -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": kind})

    def _write(self, body: bytes) -> None:
        cut = self.planned.cut if self.planned else None
        end = len(body) if cut is None else min(cut, len(body))
        step = 1 << 14 if self.owner.bytes_per_s else 1 << 18
        view = memoryview(body)
        try:
            for i in range(0, end, step):
                piece = view[i : min(end, i + step)]
                self.wfile.write(piece)
                self.request_.sent += len(piece)
                if self.owner.bytes_per_s:
                    self.wfile.flush()
                    time.sleep(len(piece) / self.owner.bytes_per_s)
        except OSError:
            self.close_connection = True
        if end < len(body):
            self.close_connection = True

    def _stac(self, path: str, query: str) -> None:
        owner, rest = self.owner, path.removeprefix(STAC).strip("/")
        if rest == "":
            links = [("root", "", "application/json"), ("self", "", "application/json"),
                     ("data", "/collections", "application/json")]  # fmt: skip
            conforms = ["https://api.stacspec.org/v1.0.0/core"]
            listed = [{"rel": r, "href": owner.stac + h, "type": t} for r, h, t in links]
            if owner.conforms:
                conforms += ["https://api.stacspec.org/v1.0.0/item-search",
                             "https://api.stacspec.org/v1.0.0/collections"]  # fmt: skip
                listed += [{"rel": "search", "href": f"{owner.stac}/search", "method": m,
                            "type": "application/geo+json"} for m in ("GET", "POST")]  # fmt: skip
            self._json({
                "type": "Catalog", "id": "local", "title": "Local STAC API", "description": "Local",
                "stac_version": "1.0.0", "conformsTo": conforms, "links": listed,
            })  # fmt: skip
        elif rest == "collections/naip":
            self._json({
                "type": "Collection", "id": "naip", "stac_version": "1.0.0",
                "license": "proprietary",
                "description": "NAIP", "title": "NAIP",
                "extent": {"spatial": {"bbox": [[-124.8, 24.7, -66.9, 49.3]]},
                           "temporal": {"interval": [["2010-01-01T00:00:00Z", None]]}},
                "links": [
                    {"rel": "license", "title": "Public Domain",
                     "href": "https://www.fsa.usda.gov/help/policies-and-links/"},
                    {"rel": "root", "href": owner.stac},
                    {"rel": "self", "href": f"{owner.stac}/{rest}"},
                ],
            })  # fmt: skip
        elif rest == "search":
            body = json.loads(self.body) if self.body else {
                k: v[0] for k, v in parse_qs(query).items()
            }  # fmt: skip
            self._json(owner.search(body), "application/geo+json")
        else:
            self._send(404, b'{"code": "NotFoundError", "description": "no such collection"}')

    def _sas(self, path: str, query: str) -> None:
        if path != f"{SAS}/naip":
            self._send(404, b'{"detail": "no such collection"}')
            return
        self._json(self.owner.token())

    def _blob(self, path: str, query: str) -> None:
        if not self.owner.valid(query):
            self.owner.refused_tokens += 1
            text = b"<?xml version='1.0'?><Error><Code>AuthenticationFailed</Code></Error>"
            self._send(403, text, {"x-ms-error-code": "AuthenticationFailed",
                                   "Content-Type": "application/xml"})  # fmt: skip
            return
        self._file(path, query)

    def _file(self, path: str, query: str) -> None:
        owner = self.owner
        if path not in owner.files:
            self._send(404, b"<?xml version='1.0'?><Error><Code>BlobNotFound</Code></Error>")
            return
        file = owner.files[path]
        size, etag = file.stat().st_size, owner.etag(path)
        headers = {"ETag": etag, "Accept-Ranges": "bytes", "Content-Type": "image/tiff"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted and self.headers.get("If-Range") not in (None, etag):
            wanted = None
        if wanted is None:
            if owner.send_md5:
                headers["Content-MD5"] = owner.md5(path)
            self._head_or(file, 0, size, 200, headers)
            return
        start = int(wanted[1])
        end = min(size, int(wanted[2]) + 1 if wanted[2] else size)
        if start >= size:
            self._send(416, b"", {"Content-Range": f"bytes */{size}"})
            return
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        self._head_or(file, start, end, 206, headers)

    def _head_or(
        self, file: Path, start: int, end: int, status: int, headers: dict[str, str]
    ) -> None:
        self.request_.status = status
        self.send_response(status)
        for k, v in {**headers, "Content-Length": str(end - start)}.items():
            self.send_header(k, v)
        self.end_headers()
        if self.command != "HEAD":
            with file.open("rb") as data:
                data.seek(start)
                self._write(data.read(end - start))

    def _wcs(self, path: str, query: str) -> None:
        asked = {k.lower(): v[0] for k, v in parse_qs(query).items()}
        owner = self.owner
        if owner.coverage_error:
            self._wcs_error(owner.coverage_error)
        elif asked.get("version") != "1.0.0" or asked.get("coverage") != COVERAGE:
            self._wcs_error(f"Could not find coverage '{asked.get('coverage')}'")
        elif asked.get("request") == "DescribeCoverage":
            self._send(200, self._description().encode(), {"Content-Type": "application/xml"})
        else:
            self._coverage(asked)

    def _wcs_error(self, text: str) -> None:
        body = (
            '<?xml version="1.0" encoding="UTF-8"?><ServiceExceptionReport version="1.2.0" '
            'xmlns="http://www.opengis.net/ogc"><ServiceException>\n      '
            f"{text}\n</ServiceException></ServiceExceptionReport>"
        )
        self._send(200, body.encode(), {"Content-Type": "application/vnd.ogc.se_xml"})

    def _description(self) -> str:
        years = sorted(self.owner.coverages)
        with rasterio.open(self.owner.coverages[years[0]]) as data:
            b, p, (h, w) = data.bounds, data.res[0], data.shape
            crs = f"EPSG:{data.crs.to_epsg()}"
        times = "".join(
            f"<gml:timePosition>{y}-01-01T00:00:00.000Z</gml:timePosition>" for y in years
        )
        return f"""<?xml version="1.0" encoding="UTF-8"?>
<wcs:CoverageDescription xmlns:wcs="http://www.opengis.net/wcs"
 xmlns:gml="http://www.opengis.net/gml" version="1.0.0"><wcs:CoverageOffering>
<wcs:name>{COVERAGE}</wcs:name><wcs:label>Land-Cover</wcs:label>
<wcs:domainSet><wcs:spatialDomain>
<gml:EnvelopeWithTimePeriod srsName="{crs}"><gml:pos>{b.left} {b.bottom}</gml:pos>
<gml:pos>{b.right} {b.top}</gml:pos>{times}</gml:EnvelopeWithTimePeriod>
<gml:RectifiedGrid dimension="2" srsName="{crs}"><gml:limits><gml:GridEnvelope>
<gml:low>0 0</gml:low><gml:high>{w - 1} {h - 1}</gml:high></gml:GridEnvelope></gml:limits>
<gml:axisName>x</gml:axisName><gml:axisName>y</gml:axisName>
<gml:origin><gml:pos>{b.left + p / 2} {b.top - p / 2}</gml:pos></gml:origin>
<gml:offsetVector>{p} 0.0</gml:offsetVector><gml:offsetVector>0.0 -{p}</gml:offsetVector>
</gml:RectifiedGrid></wcs:spatialDomain><wcs:temporalDomain>{times}</wcs:temporalDomain>
</wcs:domainSet></wcs:CoverageOffering></wcs:CoverageDescription>"""

    def _coverage(self, asked: dict[str, str]) -> None:
        """What a server does with any box and size: nearest neighbour onto the grid asked for."""
        owner = self.owner
        left, bottom, right, top = (float(v) for v in asked["bbox"].split(","))
        width, height = int(asked["width"]), int(asked["height"])
        left, right = left + owner.coverage_shift, right + owner.coverage_shift
        px, py = (right - left) / width, (top - bottom) / height
        with rasterio.open(owner.coverages[int(asked["time"][:4])]) as data:
            xs = left + (np.arange(width) + 0.5) * px
            ys = top - (np.arange(height) + 0.5) * py
            cols = np.floor((xs - data.bounds.left) / data.res[0]).astype(int)
            rows = np.floor((data.bounds.top - ys) / data.res[1]).astype(int)
            whole = np.pad(data.read(1), 1)
            rows = np.clip(rows + 1, 0, whole.shape[0] - 1)
            cols = np.clip(cols + 1, 0, whole.shape[1] - 1)
            codes, crs, nodata = whole[np.ix_(rows, cols)], data.crs, data.nodata
        with MemoryFile() as memory:
            with memory.open(
                driver="GTiff", width=width, height=height, count=1, dtype="uint8", crs=crs,
                nodata=nodata, transform=rasterio.transform.from_origin(left, top, px, py),
            ) as out:  # fmt: skip
                out.write(codes, 1)
            self._send(200, bytes(memory.getbuffer()), {"Content-Type": "image/tiff"})


@contextmanager
def serving() -> Iterator[FetchServer]:
    """The servers, closed afterwards."""
    server = FetchServer()
    try:
        yield server
    finally:
        server.close()
