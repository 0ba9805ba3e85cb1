"""What is read off a request and said in a refusal, whatever is asked for. Total on what a stranger sends."""

from __future__ import annotations

import re
from typing import Final

import msgspec

HEAD_BYTES_MAX: Final = 16_384
"""The longest head of a request or an answer; a have-map of 65,536 pieces takes 10,924 of it."""
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def range_of(header: str | None, size: int) -> range | None:
    """The bytes that a Range header asks for, all without one; None where there are none such. One range at a time; a
    unit that is not bytes counts as none (RFC 9110, 14.2)."""
    if header is None or not header.startswith("bytes="):
        return range(size)
    found = _RANGE.fullmatch(header.replace(" ", ""))
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        first, end = max(0, size - int(found[2])), size
    else:
        first, end = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
    return range(first, end) if first < end else None


def problem_of(status: int, code: str, title: str, hint: str) -> bytes:
    """The body of a refusal (RFC 9457)."""
    return msgspec.json.encode({"title": title, "status": status, "code": code, "hint": hint})
