"""How each operation fails: the completion that a host gives where it has no more to say than a reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from edgecoder.core.effects import (
    Advertise,
    AllocateFile,
    Connect,
    DeleteFile,
    DialCoordinator,
    DialPeer,
    FetchFile,
    FetchPiece,
    HashFile,
    LoadModel,
    Operation,
    Persist,
    RunTask,
    ServePiece,
    UnloadModel,
)
from edgecoder.core.events import (
    AdvertiseFailed,
    AllocateFailed,
    Completion,
    ConnectFailed,
    DeleteFailed,
    FetchFailed,
    HashFailed,
    ModelLoadFailed,
    PersistFailed,
    PieceFailed,
    TaskFailed,
    UnloadFailed,
)
from edgecoder.core.giving import DialFailed, ServeFailed
from edgecoder.core.ids import OpId
from edgecoder.errors import Reason

FAILURES: Mapping[type[Operation], Callable[[OpId, Reason], Completion]] = MappingProxyType(
    {
        Persist: PersistFailed,
        Advertise: AdvertiseFailed,
        Connect: ConnectFailed,
        LoadModel: ModelLoadFailed,
        UnloadModel: UnloadFailed,
        RunTask: TaskFailed,
        FetchFile: FetchFailed,
        HashFile: HashFailed,
        DeleteFile: DeleteFailed,
        AllocateFile: AllocateFailed,
        FetchPiece: PieceFailed,
        ServePiece: ServeFailed,
        DialCoordinator: ConnectFailed,
        DialPeer: DialFailed,
    }
)
