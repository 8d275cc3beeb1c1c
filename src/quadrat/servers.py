"""Servers: whether one answers, told within seconds. It does not know what a server holds."""

from __future__ import annotations

import http.client
import socket
import ssl
import urllib.request
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
PATIENCE_S = 8.0  # for the connection, and again for the first answer


def check_answers(url: str, path: str = "/") -> None:
    """Return where the server takes a connection and, if it is a web server, answers at all.

    Clients of stores and of the run history try for minutes before they give up. Schemes that are
    not in `PORTS`, and servers behind the system's proxy, are not asked. A refusal, and a TLS
    certificate that is not trusted, are answers: the client says more about them.

    Args:
        url: the server's address; only scheme, host and port count.
        path: what a web server is asked for.

    Raises:
        OSError: nothing takes a connection, or nothing comes back within 16 seconds.
    """
    place = urlsplit(url)
    scheme = place.scheme.split("+")[0]
    if scheme not in PORTS or not place.hostname:
        return
    if scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(place.hostname):
        return
    host, port = place.hostname, place.port or PORTS[scheme]
    if scheme not in ("http", "https"):
        socket.create_connection((host, port), PATIENCE_S).close()
        return
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    connection = kinds[scheme](host, port, timeout=PATIENCE_S)
    try:
        connection.request("HEAD", path)
        connection.getresponse()
    except ssl.SSLError:
        return
    except http.client.HTTPException as error:
        raise ConnectionError(f"no web server: {type(error).__name__}") from None
    finally:
        connection.close()
