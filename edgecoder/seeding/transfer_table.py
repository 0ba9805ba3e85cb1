"""The states of a download of pieces, as data."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgecoder.core.labels import Label


class TransferState(Label):
    """How a download of pieces stands."""

    ALLOCATING = "allocating"
    FETCHING = "fetching"
    DONE = "done"
    FAILED = "failed"


class TransferStep(Label):
    """What can happen to one."""

    ALLOCATED = "allocated"
    WHOLE = "whole"
    GAVE_UP = "gaveUp"
    CALLED_OFF = "calledOff"


TRANSFER_TABLE: Mapping[tuple[TransferState, TransferStep], TransferState] = MappingProxyType(
    {
        (TransferState.ALLOCATING, TransferStep.ALLOCATED): TransferState.FETCHING,
        (TransferState.ALLOCATING, TransferStep.GAVE_UP): TransferState.FAILED,
        (TransferState.ALLOCATING, TransferStep.CALLED_OFF): TransferState.FAILED,
        (TransferState.FETCHING, TransferStep.WHOLE): TransferState.DONE,
        (TransferState.FETCHING, TransferStep.GAVE_UP): TransferState.FAILED,
        (TransferState.FETCHING, TransferStep.CALLED_OFF): TransferState.FAILED,
    }
)
