"""SHA-256 in a header, as RFC 9530 writes it (`Repr-Digest`)."""

from __future__ import annotations

import base64
import binascii
import re

_SHA_256 = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")


def written(sha256: str) -> str:
    """The value for a hash in hex."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def read(value: str) -> str:
    """The hash in hex that a value has; empty where it has none."""
    found = _SHA_256.search(value)
    try:
        return "" if found is None else base64.b64decode(found[1], validate=True).hex()
    except binascii.Error:
        return ""
