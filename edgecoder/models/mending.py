"""What a node kept of its files, made to fit what its store found of them when it started.

The two are one after any crash; they are not when somebody deleted files, or when the disk lost or forgot some. A file
counts as installed when the store vouches for it, and pieces count while their file has its whole size.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgecoder.models.inventory import KEY, DownloadState, FileRow, decode_rows, encode_rows
from edgecoder.seeding.holdings import KEY as PIECES_KEY


def _rows(snapshot: Mapping[str, bytes]) -> dict[str, FileRow]:
    """A damaged record is none."""
    try:
        return decode_rows(snapshot.get(KEY))
    except ValueError:
        return {}


def known(snapshot: Mapping[str, bytes]) -> set[str]:
    """SHA-256 of the files of which something may lie on the disk."""
    rows = _rows(snapshot)
    return {digest for digest, row in rows.items() if row.state is not DownloadState.ABSENT}


def mend(snapshot: Mapping[str, bytes], whole: Mapping[str, int], parts: Mapping[str, int]) -> dict[str, bytes]:
    """The snapshot to start with. `whole` are the verified files and their sizes in bytes; `parts` those that have
    their whole size but are not verified, and how many bytes of them, from the first one on, are known to be synced."""
    rows = _rows(snapshot)
    for digest, size_bytes in whole.items():
        row = rows.setdefault(digest, FileRow())
        if row.state not in {DownloadState.QUARANTINED, DownloadState.REMOVING}:
            row.state, row.is_wanted = DownloadState.INSTALLED, False
        row.bytes_done = size_bytes
    for digest, row in rows.items():
        if digest in whole:
            continue
        if row.state is DownloadState.INSTALLED:
            row.state = DownloadState.PARTIAL if digest in parts else DownloadState.ABSENT
        row.bytes_done = parts.get(digest, 0)
    there = whole.keys() | parts.keys()
    gone = {key for key in snapshot if key.startswith(PIECES_KEY) and key.removeprefix(PIECES_KEY) not in there}
    mended = {key: value for key, value in snapshot.items() if key not in gone}
    if rows:
        mended[KEY] = encode_rows(rows)
    return mended
