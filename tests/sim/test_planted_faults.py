"""A checker is worth what it catches: each planted fault is seen, and without it the same run is clean."""

from __future__ import annotations

import pytest

from edgecoder.errors import InvariantViolated
from tests.sim.eventful import run, run_alone
from tests.sim.faults import FAULTS, Fault


@pytest.mark.parametrize("sets", [(), ("wire=encoded",), ("tick_us=1",)], ids=["reference", "encoded", "exact"])
def test_without_a_fault_the_run_is_clean(sets: tuple[str, ...]) -> None:
    assert run(*sets).watch.checked > 5_000
    assert run_alone(*sets).watch.checked > 100


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_caught(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.plant(monkeypatch)
    with pytest.raises(InvariantViolated) as caught:
        fault.run()
    assert caught.value.checker == fault.checker, str(caught.value)
    assert str(caught.value).endswith("; reproduce: pytest tests/sim/test_planted_faults.py")
