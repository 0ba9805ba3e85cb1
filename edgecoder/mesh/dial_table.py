"""What can happen to a device that is heard, and what follows. Who is dialled, and when, is decided in `neighbours`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType


class DialState(Enum):
    """Where a device that is heard stands."""

    HEARD = "heard"
    DIALLING = "dialling"
    LINKED = "linked"
    LEFT_ALONE = "leftAlone"


class DialStep(Enum):
    """What can happen to it."""

    DIALLED = "dialled"
    LINK_UP = "linkUp"
    FAILED = "failed"
    FAILED_TOO_OFTEN = "failedTooOften"
    CANCELLED = "cancelled"
    LINKS_DOWN = "linksDown"
    NEWS = "news"


DIAL_TABLE: Mapping[tuple[DialState, DialStep], DialState] = MappingProxyType(
    {
        (DialState.HEARD, DialStep.DIALLED): DialState.DIALLING,
        (DialState.HEARD, DialStep.LINK_UP): DialState.LINKED,
        (DialState.HEARD, DialStep.FAILED_TOO_OFTEN): DialState.LEFT_ALONE,
        (DialState.DIALLING, DialStep.LINK_UP): DialState.LINKED,
        (DialState.DIALLING, DialStep.FAILED): DialState.HEARD,
        (DialState.DIALLING, DialStep.FAILED_TOO_OFTEN): DialState.LEFT_ALONE,
        (DialState.DIALLING, DialStep.CANCELLED): DialState.HEARD,
        (DialState.LINKED, DialStep.LINKS_DOWN): DialState.HEARD,
        (DialState.LEFT_ALONE, DialStep.DIALLED): DialState.DIALLING,
        (DialState.LEFT_ALONE, DialStep.LINK_UP): DialState.LINKED,
        (DialState.LEFT_ALONE, DialStep.NEWS): DialState.HEARD,
    }
)
