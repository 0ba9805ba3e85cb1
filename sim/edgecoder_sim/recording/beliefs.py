"""Rows that nodes hold of others, each compared with the truth from the moment it stops being true.

Decides how long a row has been wrong; what the truth is, and who learned what, it is told. A row is wrong while the
state it shows (any value with `==`) is not the subject's own.
"""

from __future__ import annotations

import msgspec

from edgecoder_sim.recording.histogram import Histogram


class Row:
    """What one node holds of another."""

    __slots__ = ("state", "version", "wrong_since_us")

    def __init__(self, version: int, state: object) -> None:
        self.version = version
        self.state = state
        self.wrong_since_us: int | None = None


class Snapshot(msgspec.Struct, frozen=True):
    """The rows at one instant, and since the snapshot before."""

    held: int
    wrong: int
    mean_us: float
    """How long a row had been wrong, mean over the rows and the time since the snapshot before; right ones count 0."""
    max_us: int
    """The longest that a row had been wrong in that time."""


class Beliefs:
    """All rows of one kind, such as the registries of all coordinators."""

    def __init__(self) -> None:
        self._of: dict[int, dict[int, Row]] = {}
        self._by: dict[int, dict[int, None]] = {}
        self._wrong: dict[Row, None] = {}
        self._held = 0
        self._held_since_us = 0
        self._held_us = 0
        self._wrong_us = 0
        self._stale_us2 = 0
        self._seen_us = 0
        self._seen_held_us = 0
        self._seen_stale_us2 = 0
        self._seen_max_us = 0
        self.corrected = Histogram()
        """How long rows had been wrong when news put them right, µs."""

    def row(self, holder: int, subject: int) -> Row | None:
        """What `holder` holds of `subject`."""
        rows = self._of.get(subject)
        return None if rows is None else rows.get(holder)

    def subjects(self, holder: int) -> dict[int, None]:
        """Of whom `holder` holds rows, in the order in which it learned of them."""
        return self._by.get(holder, {})

    def changed(self, at_us: int, subject: int, truth: object) -> None:
        """The truth about a subject changed."""
        for row in self._of.get(subject, {}).values():
            self._compare(at_us, row, truth)

    def learned(
        self, at_us: int, holder: int, subject: int, version: int, state: object, truth: object
    ) -> tuple[str, int | None]:
        """`holder` took news. Returns whether they were the first, a new state or a refresh, and how long the row had
        been wrong if they put it right, µs."""
        rows = self._of.setdefault(subject, {})
        row = rows.get(holder)
        if row is None:
            row = rows[holder] = Row(version, state)
            self._by.setdefault(holder, {})[subject] = None
            self._count(at_us, 1)
            news = "first"
        else:
            news = "refresh" if row.state == state else "state"
            row.version, row.state = version, state
        wrong_us = self._compare(at_us, row, truth)
        if wrong_us is not None:
            self.corrected.add(wrong_us)
        return news, wrong_us

    def forgot(self, at_us: int, holder: int, subject: int) -> Row | None:
        """`holder` dropped its row of `subject`; the row, if there was one."""
        row = self._of.get(subject, {}).pop(holder, None)
        if row is not None:
            del self._by[holder][subject]
            self._count(at_us, -1)
            self._right(at_us, row)
        return row

    def forgot_all(self, at_us: int, holder: int) -> None:
        """`holder` lost its memory."""
        for subject in list(self.subjects(holder)):
            self.forgot(at_us, holder, subject)

    def snapshot(self, at_us: int) -> Snapshot:
        """The rows as they are now, and how stale they were since the last call."""
        self._count(at_us, 0)
        stale_us2, max_us = self._seen_stale_us2, self._seen_max_us
        for row in self._wrong:
            since_us = row.wrong_since_us or 0
            stale_us2 += self._stale_since_seen(since_us, at_us)
            max_us = max(max_us, at_us - since_us)
        held_us = self._held_us - self._seen_held_us
        self._seen_us, self._seen_held_us, self._seen_stale_us2, self._seen_max_us = at_us, self._held_us, 0, 0
        return Snapshot(self._held, len(self._wrong), stale_us2 / 2 / held_us if held_us else 0.0, max_us)

    def metrics(self, at_us: int, prefix: str) -> dict[str, float]:
        """Over the whole run to `at_us`: the share of row-time that was wrong, the mean staleness of a row over time,
        and how long rows stayed wrong. Nothing where no row was held."""
        self._count(at_us, 0)
        wrong_us, stale_us2 = self._wrong_us, self._stale_us2
        for row in self._wrong:
            age_us = at_us - (row.wrong_since_us or 0)
            wrong_us, stale_us2 = wrong_us + age_us, stale_us2 + age_us * age_us
        if not self._held_us:
            return {}
        metrics = {
            f"{prefix}_wrong_share": wrong_us / self._held_us,
            f"{prefix}_staleness_mean_s": stale_us2 / 2 / self._held_us / 1e6,
        }
        if self.corrected.count:
            metrics[f"{prefix}_wrong_p50_s"] = self.corrected.quantile(0.5) / 1e6
            metrics[f"{prefix}_wrong_p99_s"] = self.corrected.quantile(0.99) / 1e6
        return metrics

    def _compare(self, at_us: int, row: Row, truth: object) -> int | None:
        """Note whether a row is wrong; if it was and is right now, for how long it was, µs."""
        if row.state == truth:
            return self._right(at_us, row)
        if row.wrong_since_us is None:
            row.wrong_since_us = at_us
            self._wrong[row] = None
        return None

    def _right(self, at_us: int, row: Row) -> int | None:
        if row.wrong_since_us is None:
            return None
        wrong_us, row.wrong_since_us = at_us - row.wrong_since_us, None
        del self._wrong[row]
        self._wrong_us += wrong_us
        self._stale_us2 += wrong_us * wrong_us
        self._seen_stale_us2 += self._stale_since_seen(at_us - wrong_us, at_us)
        self._seen_max_us = max(self._seen_max_us, wrong_us)
        return wrong_us

    def _stale_since_seen(self, since_us: int, at_us: int) -> int:
        """Twice the integral of a row's age from the last snapshot to `at_us`, for one that was wrong from `since_us`
        on, µs²."""
        before_us = max(0, self._seen_us - since_us)
        return (at_us - since_us) ** 2 - before_us**2

    def _count(self, at_us: int, difference: int) -> None:
        """Add up how long how many rows were held."""
        self._held_us += self._held * (at_us - self._held_since_us)
        self._held_since_us = at_us
        self._held += difference
