"""Faults to plant in swaps, in the order of messages, and in commands and operations. See `planted`.

Those of the first EdgeCoder are among them, such as a node left dark by a failed swap, and those that the checkers
found in this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest

from edgecoder.core.context import Context
from edgecoder.core.effects import DeleteFile, Persist, Reply, TaskResult
from edgecoder.core.events import Persisted, Started
from edgecoder.core.node import EPOCH_KEY, Node
from edgecoder.errors import Reason
from edgecoder.mesh.announcer import Announcer
from edgecoder.mesh.executor import Executor
from edgecoder.mesh.heartbeat import HeartbeatSender
from edgecoder.mesh.origin import Origin
from edgecoder.mesh.replay import ReplayWindow
from edgecoder.models import swap as swap_module
from edgecoder.models.catalog import CatalogEntry
from edgecoder.models.downloads import Downloads
from edgecoder.models.swap import Swap, SwapState, SwapStep
from edgecoder.wire.envelope import Header
from edgecoder.wire.messages import Capabilities
from edgecoder_sim.host import SimNode
from tests.sim.planted import Faults

FAULTS: Final = Faults()
fault = FAULTS.enter
Key = tuple[SwapState, SwapStep]


def change_rows(
    patch: pytest.MonkeyPatch, rows: dict[Key, tuple[SwapState, Callable[[Swap], None]]], without: Key | None = None
) -> None:
    """Put another swap table in the place of the real one, which is read-only: other tests draw it."""
    changed = {**swap_module.TABLE, **rows}
    patch.setattr(swap_module, "TABLE", {key: row for key, row in changed.items() if key != without})


# -- anything at all ---------------------------------------------------------------------------------------------------


@fault("handle never raises")
def raise_where_tasks_drain(patch: pytest.MonkeyPatch) -> None:
    """A state that nobody thought of: the node dies of an exception."""

    def drain(*_: object) -> None:
        raise KeyError("drained twice")

    patch.setattr(Executor, "drain", drain)


# -- swaps -------------------------------------------------------------------------------------------------------------


@fault("one model")
def load_beside_the_old_model(patch: pytest.MonkeyPatch) -> None:
    """The new model is loaded before the old one is freed."""
    change_rows(patch, {(SwapState.DRAINING, SwapStep.DRAINED): (SwapState.LOADING, Swap.load)})


@fault("one model")
def drain_nothing(patch: pytest.MonkeyPatch) -> None:
    """The old model is freed under the tasks that run on it."""
    patch.setattr(Executor, "drain", lambda self, on_drained: on_drained())


@fault("told before unload")
def unload_before_peers_know(patch: pytest.MonkeyPatch) -> None:
    """The loading advertisement is made, and nobody waits until it is out."""

    def hasten(swap: Swap) -> None:
        swap._around.advertise_loading(lambda _: None)
        swap._step(SwapStep.ANNOUNCED)

    change_rows(patch, {(SwapState.ANNOUNCING, SwapStep.INTENT_KEPT): (SwapState.ANNOUNCING, hasten)})


@fault("told before unload")
def coordinator_waits_for_the_gap(patch: pytest.MonkeyPatch) -> None:
    """A heartbeat that says loading waits like any other news, so that the unload can overtake it."""
    changed = HeartbeatSender.changed

    def wait(self: HeartbeatSender) -> None:
        current = self._announcer().current
        self._said_loading = current is not None and current.current_load.is_loading
        changed(self)

    patch.setattr(HeartbeatSender, "changed", wait)


@fault("told before unload")
def roll_back_without_a_word(patch: pytest.MonkeyPatch) -> None:
    """A failed swap leaves the node dark: the old model serves, and nobody is told (a fault of the first EdgeCoder)."""

    def settle(swap: Swap) -> None:
        with pytest.MonkeyPatch.context() as quiet:
            quiet.setattr(type(swap._around), "advertise_settled", lambda _: None)
            swap._settle()

    change_rows(patch, {(SwapState.ROLLING_BACK, SwapStep.LOADED): (SwapState.READY, settle)})


@fault("intent is journalled")
def swap_without_a_journal(patch: pytest.MonkeyPatch) -> None:
    """The intent is not written."""

    def skip(swap: Swap) -> None:
        swap._failure, swap._previous = None, swap.active
        swap._step(SwapStep.INTENT_KEPT)

    for state in (SwapState.READY, SwapState.EMPTY, SwapState.FAILED):
        change_rows(patch, {(state, SwapStep.REQUESTED): (SwapState.ANNOUNCING, skip)})


@fault("intent is journalled")
def give_up_at_the_first_failure(patch: pytest.MonkeyPatch) -> None:
    """A load that fails is not rolled back."""
    change_rows(patch, {(SwapState.LOADING, SwapStep.LOAD_FAILED): (SwapState.FAILED, Swap.give_up)})


@fault("swaps end")
def lose_a_load(patch: pytest.MonkeyPatch) -> None:
    """A failure of the second load is overlooked."""
    change_rows(patch, {}, without=(SwapState.ROLLING_BACK, SwapStep.LOAD_FAILED))


@fault("one reply")
def forget_who_was_superseded(patch: pytest.MonkeyPatch) -> None:
    """A request that a later one replaced is dropped without a word."""
    answer = Swap._answer

    def some(self: Swap, commands: list[int], reason: Reason | None) -> None:
        if reason is not Reason.SUPERSEDED:
            answer(self, commands, reason)

    patch.setattr(Swap, "_answer", some)


# -- files ------------------------------------------------------------------------------------------------------------


@fault("files in use stay")
def remove_what_serves(patch: pytest.MonkeyPatch) -> None:
    """A removal does not ask whether the model is in use."""
    patch.setattr(Swap, "needs", lambda self, entry: False)


@fault("files in use stay")
def delete_and_say_nothing(patch: pytest.MonkeyPatch) -> None:
    """A file is deleted, and the inventory goes on to show it."""

    def delete(self: Downloads, entry: CatalogEntry, on_end: Callable[[Reason | None], None]) -> None:
        self._context.out.append(DeleteFile(self._context.ops.begin(lambda _: on_end(None)), entry))

    patch.setattr(Downloads, "remove", delete)


# -- order -------------------------------------------------------------------------------------------------------------


@fault("envelopes are ordered")
def begin_again_with_the_first_number(patch: pytest.MonkeyPatch) -> None:
    """Every life seals with epoch 1, so that (epoch, seq) comes again."""

    def seal(self: Context, message: Any, ttl_ms: int) -> Any:
        self.seq += 1
        return self.signer.seal(Header(self.cluster.network_id, self.node_id, 1, self.seq, ttl_ms), message)

    patch.setattr(Context, "seal", seal)


@fault("generation grows")
def reuse_the_epoch(patch: pytest.MonkeyPatch) -> None:
    """A restart does not count the epoch up, so that all that it orders comes again."""

    def start(self: Node, event: Started) -> None:
        self._snapshot, self._wall_ms = event.snapshot, event.wall_ms
        kept = int.from_bytes(event.snapshot.get(EPOCH_KEY, b""), "big")
        self.context.epoch, self.context.ops.epoch = kept or 1, kept + 1 + (self.context.now > 0)
        self._persist_epoch()

    patch.setattr(Node, "_start", start)


@fault("envelopes are ordered")
def send_before_the_epoch_is_durable(patch: pytest.MonkeyPatch) -> None:
    """The epoch is written, and the node goes ahead."""

    def hasten(self: Node) -> None:
        self.context.persist(EPOCH_KEY, self.context.epoch.to_bytes(4, "big"), lambda _: None)
        self._epoch_persisted(Persisted(0))

    patch.setattr(Node, "_persist_epoch", hasten)


@fault("envelopes are ordered")
def seal_twice_with_one_number(patch: pytest.MonkeyPatch) -> None:
    """Every hundredth envelope does not count."""
    seal = Context.seal

    def stutter(self: Context, message: Any, ttl_ms: int) -> Any:
        if self.seq % 100 == 99:
            self.seq -= 1
        return seal(self, message, ttl_ms)

    patch.setattr(Context, "seal", stutter)


@fault("generation grows")
def generation_of_this_life_alone(patch: pytest.MonkeyPatch) -> None:
    """The generation begins anew with every life."""
    make = Announcer._capabilities

    def short(self: Announcer) -> Capabilities:
        made = make(self)
        return msgspec.structs.replace(made, generation=made.generation & 0xFFFF_FFFF)

    patch.setattr(Announcer, "_capabilities", short)


@fault("frames count once")
def accept_replays(patch: pytest.MonkeyPatch) -> None:
    """(epoch, seq) is not looked at."""
    patch.setattr(ReplayWindow, "accept", lambda self, epoch, seq: True)


# -- commands and operations -------------------------------------------------------------------------------------------


@fault("one reply")
def reply_twice(patch: pytest.MonkeyPatch) -> None:
    """Every answer to a task comes twice."""
    reply = Context.reply

    def stutter(self: Context, command: int, result: Any) -> None:
        reply(self, command, result)
        if isinstance(result, TaskResult):
            self.out.append(Reply(command, result))

    patch.setattr(Context, "reply", stutter)


@fault("one end")
def never_reply(patch: pytest.MonkeyPatch) -> None:
    """A task ends, and its user is not told."""
    reply = Context.reply

    def swallow(self: Context, command: int, result: Any) -> None:
        if not isinstance(result, TaskResult):
            reply(self, command, result)

    patch.setattr(Context, "reply", swallow)


@fault("one reply")
def lose_the_deadline(patch: pytest.MonkeyPatch) -> None:
    """A task that nobody can take waits for ever."""
    patch.setattr(Origin, "_give_up", lambda self, task, reason: None)


@fault("one completion")
def complete_twice(patch: pytest.MonkeyPatch) -> None:
    """The host's disk reports every write twice."""
    persisted = SimNode._persisted

    def stutter(self: SimNode, effect: Persist, life: int) -> None:
        persisted(self, effect, life)
        self.post(Persisted(effect.op))

    patch.setattr(SimNode, "_persisted", stutter)


@fault("one completion")
def lose_a_completion(patch: pytest.MonkeyPatch) -> None:
    """The host's disk forgets to report what it wrote of swaps."""
    persisted = SimNode._persisted

    def forget(self: SimNode, effect: Persist, life: int) -> None:
        if effect.key != "swap":
            persisted(self, effect, life)

    patch.setattr(SimNode, "_persisted", forget)
