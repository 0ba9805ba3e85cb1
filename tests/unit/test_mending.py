"""What a node kept of its files is made to fit what its store found."""

from __future__ import annotations

import pytest

from edgecoder.models.inventory import KEY, DownloadState, FileRow, decode_rows, encode_rows
from edgecoder.models.mending import known, mend
from edgecoder.seeding.holdings import KEY as PIECES

FILE = "a" * 64
S = DownloadState


def row_of(snapshot: dict[str, bytes]) -> FileRow:
    return decode_rows(snapshot[KEY])[FILE]


def kept(state: DownloadState, *, is_wanted: bool = False) -> dict[str, bytes]:
    return {KEY: encode_rows({FILE: FileRow(state, 70, is_wanted=is_wanted)}), PIECES + FILE: b"map", "epoch": b"4"}


@pytest.mark.parametrize(
    ("before", "whole", "part", "nothing"),
    [
        (S.ABSENT, S.INSTALLED, S.ABSENT, S.ABSENT),
        (S.PARTIAL, S.INSTALLED, S.PARTIAL, S.PARTIAL),
        (S.VERIFYING, S.INSTALLED, S.VERIFYING, S.VERIFYING),
        (S.INSTALLED, S.INSTALLED, S.PARTIAL, S.ABSENT),
        (S.QUARANTINED, S.QUARANTINED, S.QUARANTINED, S.QUARANTINED),
        (S.REMOVING, S.REMOVING, S.REMOVING, S.REMOVING),
    ],
)
def test_the_state_of_a_file(
    before: DownloadState, whole: DownloadState, part: DownloadState, nothing: DownloadState
) -> None:
    assert row_of(mend(kept(before), {FILE: 100}, {})).state is whole
    assert row_of(mend(kept(before), {}, {FILE: 30})).state is part
    assert row_of(mend(kept(before), {}, {})).state is nothing


def test_what_is_known_to_be_synced_counts() -> None:
    assert row_of(mend(kept(S.PARTIAL), {FILE: 100}, {})).bytes_done == 100
    assert row_of(mend(kept(S.PARTIAL), {}, {FILE: 30})).bytes_done == 30
    assert row_of(mend(kept(S.PARTIAL), {}, {})).bytes_done == 0


def test_a_download_goes_on_unless_its_file_is_whole() -> None:
    assert row_of(mend(kept(S.PARTIAL, is_wanted=True), {}, {FILE: 30})).is_wanted
    assert not row_of(mend(kept(S.PARTIAL, is_wanted=True), {FILE: 100}, {})).is_wanted


def test_pieces_count_while_their_file_is_there() -> None:
    assert PIECES + FILE in mend(kept(S.PARTIAL), {}, {FILE: 0})
    assert PIECES + FILE not in mend(kept(S.PARTIAL), {}, {})


def test_everything_else_stays_and_a_damaged_record_is_none() -> None:
    assert mend(kept(S.PARTIAL), {}, {})["epoch"] == b"4"
    assert mend({KEY: b"\xff", "epoch": b"4"}, {}, {}) == {KEY: b"\xff", "epoch": b"4"}
    assert row_of(mend({KEY: b"\xff"}, {FILE: 100}, {})).state is S.INSTALLED
    assert known({KEY: b"\xff"}) == known({}) == known(kept(S.ABSENT)) == set()
    assert known(kept(S.REMOVING)) == {FILE}
