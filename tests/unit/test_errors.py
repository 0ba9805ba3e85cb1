"""The table of reasons is whole, and errors read as they should."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgecoder.errors import REASONS, ConfigError, InvariantViolated, Reason, RemoteProtocolError


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_explained(reason: Reason) -> None:
    info = REASONS[reason]
    assert info.message
    assert info.hint
    assert 400 <= info.http_status < 600


def test_every_reason_is_given_somewhere() -> None:
    root = Path(__file__).parents[2]
    files = [path for folder in ("edgecoder", "sim") for path in (root / folder).rglob("*.py")]
    code = "".join(path.read_text(encoding="utf-8") for path in files if path.name != "errors.py")
    given = {reason for reason in Reason if re.search(rf"Reason\.{reason.name}\b", code)}
    assert set(Reason) - given == {Reason.ADVERTISE_FAILED}


def test_reasons_keep_their_names_on_the_wire() -> None:
    assert all(reason.value == reason.name.lower() for reason in Reason)


def test_a_config_error_is_one_located_line() -> None:
    assert str(ConfigError("a.yaml", 3, "x is -1", "use 0 or more")) == "a.yaml:3: x is -1; use 0 or more"
    assert str(ConfigError("a.yaml", None, "x is -1", "")) == "a.yaml: x is -1"


def test_a_violated_invariant_says_how_to_see_it_again() -> None:
    error = InvariantViolated("one_model", 7, 1_500_000, "two models", "edgecoder run x --rng-seed 7")
    assert str(error) == (
        "invariant one_model violated at 1.500 s (rng_seed 7): two models; reproduce: edgecoder run x --rng-seed 7"
    )
    assert error.exit_code == 1


def test_a_remote_error_carries_its_reason() -> None:
    error = RemoteProtocolError(Reason.BAD_FRAME, "short")
    assert error.reason is Reason.BAD_FRAME
    assert str(error) == "bad_frame: short"
