"""The table of the user's tasks: every row is reached by driving a node, and what has no row changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgecoder.config import Routing
from edgecoder.core.events import CancelTask
from edgecoder.errors import Reason
from edgecoder.mesh.open_task import OpenTask
from edgecoder.mesh.task_table import TASK_TABLE, TaskState, TaskStep
from edgecoder.wire.messages import ResponseStatus
from tests.harness import Cluster, Puppet
from tests.scenes import Scene
from tests.steps import ids, missing, watch

ACCEPTED, CHUNK, DONE, REFUSED, FAILED = ResponseStatus


@pytest.fixture
def scene(cluster: Cluster) -> Scene:
    """The phone, and nobody yet."""
    return Scene(cluster)


S, T = TaskState, TaskStep


def asked(scene: Scene) -> Puppet:
    peer = scene.peer("peer")
    scene.ask()
    return peer


def accepted(scene: Scene) -> Puppet:
    peer = asked(scene)
    scene.say(peer, ACCEPTED, 0)
    return peer


def streaming(scene: Scene) -> Puppet:
    peer = accepted(scene)
    scene.say(peer, CHUNK, 1, text="a", tokens=1)
    return peer


def probing(scene: Scene) -> None:
    scene.peer("peer")
    scene.ask()


BEFORE: dict[TaskState, Callable[[Scene], object]] = {
    S.WAITING: lambda scene: scene.ask(),
    S.PROBING: probing,
    S.ASKED: asked,
    S.ACCEPTED: accepted,
    S.STREAMING: streaming,
}
INDEX = {S.WAITING: 0, S.PROBING: 0, S.ASKED: 0, S.ACCEPTED: 1, S.STREAMING: 2}


def peer_of(scene: Scene) -> Puppet:
    """The peer that was asked."""
    (cable,) = [cable for cable in scene.cluster.cables.values() if isinstance(cable.ends[0], Puppet)]
    puppet = cable.ends[0]
    assert isinstance(puppet, Puppet)
    return puppet


def saying(status: ResponseStatus) -> Callable[[Scene, TaskState], None]:
    """The peer answers so."""
    return lambda scene, state: scene.say(peer_of(scene), status, INDEX[state], tokens=1)


def routed(scene: Scene, state: TaskState) -> None:
    if state is S.WAITING:
        scene.peer("peer")
    else:
        scene.offer(peer_of(scene))


HAPPEN: dict[TaskStep, Callable[[Scene, TaskState], object]] = {
    T.PROBED: lambda scene, _: scene.peer("peer"),
    T.NOBODY: lambda scene, _: scene.offer(peer_of(scene), reason=Reason.BUSY),
    T.ROUTED: routed,
    T.ACCEPTED: saying(ACCEPTED),
    T.CHUNK: saying(CHUNK),
    T.REFUSED: saying(REFUSED),
    T.DONE: saying(DONE),
    T.FAILED: saying(FAILED),
    T.LOST: lambda scene, _: scene.cluster.unlink(scene.links["peer"]),
    T.GIVEN_UP: lambda scene, _: scene.phone.ask(CancelTask, task=1),
}
ROWS: dict[tuple[TaskState, TaskStep], TaskState] = {
    (S.WAITING, T.ROUTED): S.ASKED,
    (S.WAITING, T.GIVEN_UP): S.ENDED,
    (S.WAITING, T.PROBED): S.PROBING,
    (S.PROBING, T.ROUTED): S.ASKED,
    (S.PROBING, T.NOBODY): S.WAITING,
    (S.PROBING, T.GIVEN_UP): S.ENDED,
    (S.ASKED, T.ACCEPTED): S.ACCEPTED,
    (S.ASKED, T.REFUSED): S.WAITING,
    (S.ASKED, T.FAILED): S.WAITING,
    (S.ASKED, T.LOST): S.WAITING,
    (S.ASKED, T.GIVEN_UP): S.ENDED,
    (S.ACCEPTED, T.CHUNK): S.STREAMING,
    (S.ACCEPTED, T.DONE): S.ENDED,
    (S.ACCEPTED, T.REFUSED): S.WAITING,
    (S.ACCEPTED, T.FAILED): S.WAITING,
    (S.ACCEPTED, T.LOST): S.WAITING,
    (S.ACCEPTED, T.GIVEN_UP): S.ENDED,
    (S.STREAMING, T.CHUNK): S.STREAMING,
    (S.STREAMING, T.DONE): S.ENDED,
    (S.STREAMING, T.FAILED): S.ENDED,
    (S.STREAMING, T.LOST): S.ENDED,
    (S.STREAMING, T.GIVEN_UP): S.ENDED,
}


@pytest.mark.parametrize("row", TASK_TABLE, ids=ids)
def test_row(row: tuple[TaskState, TaskStep], cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    is_probed = S.PROBING in (row[0], TASK_TABLE[row])
    scene = Scene(cluster, routing=Routing.PROBE if is_probed else Routing.COST)
    assert TASK_TABLE[row] is ROWS[row]
    steps = watch(monkeypatch, OpenTask, TaskState, TaskStep)
    BEFORE[row[0]](scene)
    (task,) = scene.phone.member.origin._tasks.values()
    assert task.state is row[0]
    HAPPEN[row[1]](scene, row[0])
    assert steps.following(*row) == {ROWS[row]}
    assert (1 in scene.phone.replies) is (ROWS[row] is S.ENDED)


@pytest.mark.parametrize("pair", missing(TASK_TABLE, TaskState, TaskStep), ids=ids)
def test_without_a_row_nothing_changes(pair: tuple[TaskState, TaskStep], scene: Scene) -> None:
    BEFORE.get(pair[0], streaming)(scene)
    origin, out = scene.phone.member.origin, scene.phone.alive.context.out
    (task,) = origin._tasks.values()
    task.state = pair[0]
    out.clear()
    assert not task.step(pair[1])
    assert (task.state, out) == (pair[0], [])
