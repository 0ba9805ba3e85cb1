"""What giving model bytes earns: a rule says how much, a book adds it up for each account.

Credits are whole micro-credits, and a rule judges the sum of bytes that count alike, never one transfer: so nothing is
gained or lost by cutting a transfer into parts. How many seeders a file has comes from the broker's own records, not
from who is paid. Receipts, accounts that are debited and what stands behind the credits are left to the ledger.
"""

from __future__ import annotations

from typing import Final, Protocol

from edgecoder.core.ids import NodeId

MICRO: Final = 1_000_000
"""Micro-credits of a credit."""
SEEDERS_MAX: Final = 65_535
"""More seeders count as so many: the last bonus is 1/65,535 of the base, and an account has as many sums at most."""
SUMS_MAX: Final = 1_000_000
"""Sums that a book keeps, over all its accounts."""


class CreditRule(Protocol):
    """A policy of credits. Its numbers never fall with more bytes."""

    def counts_with(self, seeders: int) -> int:
        """Which bytes are added up: those of transfers for which this is the same. `seeders` are the holders of the
        file at the time; what no broker can have counted is taken as the nearest that it can."""
        ...

    def micro_credits(self, total_bytes: int, counts_with: int) -> int:
        """What all verified bytes of an account that count alike are worth, rounded down."""
        ...


class SeedRule:
    """The seed's rule, v1's formula: credits = (bytes / 10⁹ · 0.5) · (1 + 1 / max(1, seeders)).

    It mints from nothing and can be farmed by sending to oneself; it is kept to be studied. In integers it is
    bytes · (seeders + 1) / (2000 · seeders) micro-credits."""

    def counts_with(self, seeders: int) -> int:
        """The seeders, from 1 to `SEEDERS_MAX`."""
        return min(max(1, seeders), SEEDERS_MAX)

    def micro_credits(self, total_bytes: int, counts_with: int) -> int:
        """What bytes are worth that were sent while there were `counts_with` seeders."""
        return total_bytes * (counts_with + 1) // (2000 * counts_with)


class CreditBook:
    """What each account has earned by one rule. Adding in any order and any parts gives the same balances.

    Holds at most `sums_max` sums of bytes, and so at most as many accounts; it forgets none."""

    def __init__(self, rule: CreditRule, sums_max: int = SUMS_MAX) -> None:
        self._rule = rule
        self._sums_max = sums_max
        self._bytes: dict[tuple[NodeId, int], int] = {}
        self._balances: dict[NodeId, int] = {}

    def __len__(self) -> int:
        """Accounts."""
        return len(self._balances)

    def add(self, account: NodeId, verified_bytes: int, seeders: int) -> int | None:
        """Count bytes that an account has sent and their receiver has verified, while the file had so many seeders.
        Gives the micro-credits that this adds, None where there is no room for another sum: nothing is counted then.
        Raises ValueError where bytes are taken back."""
        if verified_bytes < 0:
            raise ValueError(f"{verified_bytes} bytes were not sent")
        key = (account, self._rule.counts_with(seeders))
        before = self._bytes.get(key)
        if before is None and len(self._bytes) >= self._sums_max:
            return None
        total = (before or 0) + verified_bytes
        self._bytes[key] = total
        gained = self._rule.micro_credits(total, key[1]) - self._rule.micro_credits(before or 0, key[1])
        self._balances[account] = self._balances.get(account, 0) + gained
        return gained

    def micro_credits(self, account: NodeId) -> int:
        """What an account has earned."""
        return self._balances.get(account, 0)


def shown_credits(micro_credits: int) -> str:
    """Credits with three decimals, half up, as they are shown: `0.333`. What is owed is rounded by its amount.

    Rounding down to micro-credits before changes no digit, since each half is a whole number of them."""
    millis = (abs(micro_credits) + MICRO // 2000) // (MICRO // 1000)
    sign = "-" if micro_credits < 0 and millis else ""
    return f"{sign}{millis // 1000}.{millis % 1000:03d}"
