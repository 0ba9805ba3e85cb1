"""The logs of a node that serves: written where there is somebody to read them, and in nobody's way."""

from __future__ import annotations

import io
import sys

import pytest
import structlog

from edgecoder_drivers.commands.serving import configure_logs


class Gone(io.StringIO):
    """A stream whose reader is gone."""

    def write(self, _: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


class Full(io.StringIO):
    """A stream whose disk is full."""

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


class Counting(io.StringIO):
    """A stream that counts what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


def test_a_line_is_written_at_once_so_that_a_kill_leaves_no_half_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Counting()
    monkeypatch.setattr(sys, "stderr", there)
    configure_logs("info")
    structlog.get_logger("test").info("up")
    assert (there.writes, there.getvalue()[-1]) == (1, "\n")


@pytest.mark.parametrize("stream", [Gone(), Full()])
def test_a_line_that_cannot_be_written_is_lost_and_the_next_one_is_not(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO
) -> None:
    log, there = structlog.get_logger("test"), io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logs("info")
    log.info("lost")
    monkeypatch.setattr(sys, "stderr", there)
    log.warning("seen", number=1)
    log.debug("not shown at this level")
    assert there.getvalue().count("\n") == 1
    assert '"number": 1, "event": "seen", "level": "warning"' in there.getvalue()
