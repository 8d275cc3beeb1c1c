"""What web pages that load nothing share: their policy, their data and their pictures inside."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any


def policy(style: str, script: str) -> str:
    """The content security policy of a page with one style and one script, named by digests."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )


def embedded(data: Any) -> str:
    """Data as the content of a script element of JSON."""
    # "<" cannot end the script element, nor open a comment in it
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def data_uri(data: bytes, kind: str) -> str:
    """A `data:` address of bytes of the MIME type `kind`."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"
