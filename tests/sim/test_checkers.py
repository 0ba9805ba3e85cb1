"""The checkers judge hand-made lives: a right one passes, each breach is named. This file: the panel itself, frames,
engine and swaps; operations, routes and tasks stand in the files beside it."""

from __future__ import annotations

import msgspec
import pytest

from edgecoder.core.effects import Advertise, Persist, Reply, Send, Trace, WakeAt
from edgecoder.core.events import (
    EngineFailed,
    FrameReceived,
    ModelLoaded,
    ModelLoadFailed,
    ModelUnloaded,
    Persisted,
    Started,
    UnloadFailed,
)
from edgecoder.core.ids import Role
from edgecoder.errors import InvariantViolated, Reason
from edgecoder.models.swap import SwapJournal
from edgecoder.protocol import FRAME_BYTES_MAX
from edgecoder.trace import Dropped
from edgecoder.wire.envelope import Envelope
from edgecoder.wire.messages import Load, Versions
from tests.catalogs import LARGE, SMALL, TINY
from tests.sim.stage import BITS, NEWS, REPRODUCE, Actor, Stage, breach


@pytest.fixture
def stage() -> Stage:
    """An empty stage."""
    return Stage()


@pytest.fixture
def phone(stage: Stage) -> Actor:
    """A phone that serves SMALL."""
    phone = stage.actor("phone-0", start=False)
    phone.boots(SMALL)
    return phone


# -- the panel ---------------------------------------------------------------------------------------------------------


def test_a_right_life_passes(stage: Stage, phone: Actor) -> None:
    phone.swaps(LARGE)
    stage.wait(100)
    phone.swaps(SMALL)
    phone.boots(SMALL)
    phone.swaps(TINY)
    stage.wait(1000)
    stage.finish()


def test_a_violation_is_one_line_that_reproduces_it(stage: Stage, phone: Actor) -> None:
    stage.wait(2.5)
    with pytest.raises(InvariantViolated) as caught:
        phone.sees(NEWS, phone.loads(LARGE))
    error = caught.value
    assert (error.checker, error.rng_seed, error.at_us) == ("intent is journalled", 7, 2_500_000)
    assert str(error) == (
        "invariant intent is journalled violated at 2.500 s (rng_seed 7): "
        f"phone-0 loads large, which its durable journal does not name; reproduce: {REPRODUCE}"
    )


def test_time_is_monotone(stage: Stage, phone: Actor) -> None:
    stage.wait(2)
    phone.sees(NEWS)
    stage.wait(-1)
    with breach("time is monotone", "phone-0", "1000000 µs, after 2000000 µs"):
        phone.sees(NEWS)


def test_a_checker_keeps_no_state_between_runs(phone: Actor) -> None:
    phone.unloads_for(LARGE)
    other = Stage().actor("phone-0", start=False)
    other.boots(SMALL)
    other.swaps(LARGE)


# -- frames ------------------------------------------------------------------------------------------------------------


def linked(stage: Stage) -> tuple[Actor, Actor, int]:
    """Two phones and the link between them."""
    a, b = stage.actor("phone-1"), stage.actor("phone-2")
    return a, b, stage.link(a, b)


def test_a_replayed_frame_may_only_be_dropped(stage: Stage) -> None:
    a, b, link = linked(stage)
    frame = a.hears(link, b, b.capabilities())
    a.sees(FrameReceived(link, frame), Trace(Dropped("frame", Reason.REPLAYED)), WakeAt(5))
    with breach("frames count once", "phone-1 acted on a frame although", "came before"):
        a.sees(FrameReceived(link, frame), *a.advertises())


def test_a_frame_that_was_overtaken_counts(stage: Stage) -> None:
    a, b, link = linked(stage)
    early, late = b.seals(b.capabilities()), b.seals(b.capabilities())
    a.sees(FrameReceived(link, late), *a.advertises())
    a.sees(FrameReceived(link, early), *a.advertises())
    with breach("frames count once", "came before"):
        a.sees(FrameReceived(link, early), *a.advertises())


def test_a_frame_of_an_earlier_life_does_not_count(stage: Stage) -> None:
    a, b, link = linked(stage)
    old = b.seals(b.capabilities())
    b.epoch += 1
    a.hears(link, b, b.capabilities())
    with breach("frames count once", r"\(1, 3\) of its sender came before"):
        a.sees(FrameReceived(link, old), *a.advertises())


@pytest.mark.parametrize("case", ["stranger", "forged", "no identity", "no link", "not ready"])
def test_a_frame_from_elsewhere_does_not_count(stage: Stage, case: str) -> None:
    a, b, link = linked(stage)
    stranger = stage.actor("phone-3")
    if case == "no identity":
        link = 9
        a.sees(NEWS, a.sends(link, a.identity()))
    elif case == "no link":
        link = 8
    elif case == "not ready":
        a.sees(Started({}))
    frame = {
        "stranger": stranger.seals(stranger.capabilities()),
        "forged": msgspec.structs.replace(b.seals(b.capabilities()), signer=stranger.node_id),
    }.get(case, b.seals(b.capabilities()))
    a.sees(FrameReceived(link, frame), Trace(Dropped("frame", Reason.UNKNOWN_SENDER)))
    with breach("frames count once", "phone-1 acted on a frame"):
        a.sees(FrameReceived(link, frame), Reply(1, None))


def test_a_foreign_version_may_be_answered_with_the_range(stage: Stage) -> None:
    a, _, link = linked(stage)
    a.sees(FrameReceived(link, b"\x93"), a.sends(link, Versions(version_min=1, version_max=1)))
    with breach("frames count once", "cannot be opened"):
        a.sees(FrameReceived(link, b"\x93"), a.sends(link, a.capabilities()))


def test_seq_grows(stage: Stage) -> None:
    a, _, link = linked(stage)
    with breach("envelopes are ordered", "phone-1 sends .epoch, seq. .1, 1. after .1, 1"):
        a.sees(NEWS, a.sends(link, a.capabilities(), seq=1))


def test_seq_is_not_used_again_after_a_restart(stage: Stage) -> None:
    a, _, _ = linked(stage)
    same = a.persists("epoch", b"\x01")
    a.sees(Started({"epoch": a.epoch.to_bytes(4, "big")}), same)
    a.sees(Persisted(same.op))
    with breach("envelopes are ordered", "phone-1 sends .epoch, seq. .1, 1. after .1, 1"):
        a.sees(NEWS, a.sends(5, a.identity(), seq=1))


def test_a_node_that_cannot_know_may_use_an_epoch_again(stage: Stage) -> None:
    a, _, _ = linked(stage)
    same = a.persists("epoch", b"\x01")
    a.sees(Started({}, wall_ms=500), same)
    a.sees(Persisted(same.op))
    a.sees(NEWS, a.sends(5, a.identity(), seq=1))


def test_an_epoch_is_durable_before_it_is_used(stage: Stage) -> None:
    a, b, _ = linked(stage)
    a.epoch += 1
    a.sees(Started({}), Persist(a.next_op(), "epoch", a.epoch.to_bytes(4, "big")))
    with breach("envelopes are ordered", "phone-1 sends with epoch 2, which is not durable"):
        a.sees(NEWS, a.sends(5, a.identity()))
    with breach("envelopes are ordered", "phone-2 sends with epoch 3, which is not durable .durable is 1"):
        b.sees(NEWS, b.sends(5, b.identity(), epoch=3))


def test_a_node_sends_in_its_own_name(stage: Stage) -> None:
    a, b, link = linked(stage)
    with breach("envelopes are ordered", "phone-1 sends in the name of", b.node_id.hex()):
        a.sees(NEWS, a.sends(link, a.capabilities(), sender=b.node_id))


def test_a_frame_can_be_read_by_others(stage: Stage) -> None:
    a, _, link = linked(stage)
    send = a.sends(link, a.identity())
    assert isinstance(send.frame, Envelope)
    long = msgspec.structs.replace(send.frame, size_bytes=FRAME_BYTES_MAX + 1)
    with breach("envelopes are ordered", "phone-1 makes a frame of 1048577 bytes"):
        a.sees(NEWS, Send(link, long))
    with breach("frames can be read", "phone-1", "nobody can open"):
        a.sees(NEWS, Send(link, b"\xc1"))


def test_the_generation_grows_over_all_lives(phone: Actor) -> None:
    phone.counter -= 1
    with breach("generation grows", "phone-0 changes its capabilities to generation 4294967298, after 4294967298"):
        phone.sees(NEWS, *phone.advertises())
    phone.start()
    phone.epoch -= 1
    phone.counter = 50
    with breach("generation grows", "not of its epoch 2"):
        phone.sees(NEWS, phone.changes())


def test_an_old_generation_is_not_advertised_again(stage: Stage) -> None:
    a, _, link = linked(stage)
    a.sees(NEWS, *a.advertises())
    old = a.capabilities()
    a.sees(NEWS, *a.advertises())
    with breach("generation grows", "phone-1 advertises generation 4294967297, after 4294967298"):
        a.sees(NEWS, Advertise(a.next_op(), old, a.seals(old), 0, BITS))
    with breach("generation grows", "phone-1 sends generation 4294967297"):
        a.sees(NEWS, a.sends(link, old))


# -- the engine --------------------------------------------------------------------------------------------------------


def named(actor: Actor, *entries: SwapJournal) -> None:
    """Make a journal durable that names these."""
    for journal in entries:
        write = actor.persists("swap", msgspec.msgpack.encode(journal))
        actor.sees(NEWS, write)
        actor.sees(Persisted(write.op))


def test_nothing_is_loaded_beside_a_model(phone: Actor) -> None:
    named(phone, SwapJournal(SMALL.sha256, LARGE.sha256))
    with breach("one model", "phone-0 loads large while small is loaded"):
        phone.sees(NEWS, phone.loads(LARGE))


def test_nothing_is_loaded_while_another_loads(stage: Stage) -> None:
    phone = stage.actor("phone-0", has_radio=False)
    named(phone, SwapJournal(SMALL.sha256, LARGE.sha256))
    phone.sees(NEWS, phone.loads(SMALL))
    with breach("one model", "phone-0 loads large while small is still loading"):
        phone.sees(NEWS, phone.loads(LARGE))
    with breach("one model", "unloads while small is loading"):
        phone.sees(NEWS, phone.unloads())


def test_nothing_is_loaded_before_the_unload_has_ended(phone: Actor) -> None:
    phone.unloads_for(LARGE)
    with breach("one model", "phone-0 loads large before the unload"):
        phone.sees(NEWS, phone.loads(LARGE))


def test_a_model_that_could_not_be_unloaded_is_still_there(phone: Actor) -> None:
    unload = phone.unloads_for(LARGE)
    phone.sees(UnloadFailed(unload.op, Reason.UNLOAD_FAILED))
    with breach("one model", "phone-0 loads large while small is loaded"):
        phone.sees(NEWS, phone.loads(LARGE))


def test_an_engine_that_failed_is_empty(phone: Actor) -> None:
    phone.sees(EngineFailed(Reason.ENGINE_CRASHED), phone.loads(SMALL))


def test_an_unload_needs_a_model_and_happens_once(phone: Actor) -> None:
    phone.unloads_for(LARGE)
    with breach("one model", "unloads twice"):
        phone.sees(NEWS, phone.unloads())
    other = phone.stage.actor("phone-1", has_radio=False)
    named(other, SwapJournal(SMALL.sha256, LARGE.sha256))
    with breach("one model", "phone-1 unloads an empty engine"):
        other.sees(NEWS, other.unloads())


def test_a_running_task_drains_before_the_unload(phone: Actor) -> None:
    run = phone.runs(phone.task())
    phone.sees(NEWS, run)
    with breach("one model", "phone-0 unloads small while task", phone.task().hex(), "must drain"):
        phone.unloads_for(LARGE)


# -- swaps -------------------------------------------------------------------------------------------------------------


def test_the_intent_is_durable_before_the_unload(phone: Actor) -> None:
    with breach("intent is journalled", "phone-0 unloads its model before the intent"):
        phone.sees(NEWS, phone.unloads())


def test_peers_are_told_before_the_unload(phone: Actor) -> None:
    phone.swap += 1
    intent = phone.intends(LARGE)
    phone.sees(NEWS, phone.phase("announcing", LARGE), intent)
    loading = phone.advertises(Load.LOADING)
    phone.sees(Persisted(intent.op), *loading)
    with breach("told before unload", "phone-0 unloads its model before an advertisement"):
        phone.sees(NEWS, phone.unloads())


def test_an_advertisement_before_the_intent_does_not_count(phone: Actor) -> None:
    phone.swap += 1
    loading = phone.advertises(Load.LOADING)
    phone.sees(NEWS, phone.phase("announcing", LARGE), *loading)
    intent = phone.intends(LARGE)
    phone.sees(phone.told(loading), intent)
    with breach("told before unload", "phone-0 unloads"):
        phone.sees(Persisted(intent.op), phone.unloads())


def test_the_coordinator_is_told_before_the_unload(stage: Stage) -> None:
    agent, hub = stage.actor("agent-0", has_radio=False, start=False), stage.actor("hub", Role.COORDINATOR)
    agent.boots(SMALL)
    link = stage.link(agent, hub)
    agent.sees(NEWS, agent.sends(link, agent.heartbeat()))
    with breach("told before unload", "agent-0 unloads its model before a heartbeat"):
        agent.unloads_for(LARGE)


def test_what_is_said_of_a_swap_is_true(phone: Actor) -> None:
    with breach("told before unload", "phone-0 advertises that it is loading; swap 1 has settled"):
        phone.sees(NEWS, *phone.advertises(Load.LOADING))
    phone.unloads_for(LARGE)
    with breach("told before unload", "phone-0 advertises that it serves while swap 2 is under way"):
        phone.sees(NEWS, *phone.advertises())


@pytest.mark.parametrize("has_radio", [True, False])
def test_the_end_of_a_swap_is_advertised(stage: Stage, has_radio: bool) -> None:
    phone = stage.actor("phone-0", start=False, has_radio=has_radio)
    phone.boots(SMALL)
    unload, load = phone.unloads_for(LARGE), phone.loads(LARGE)
    phone.sees(ModelUnloaded(unload.op), phone.phase("loading", LARGE), load)
    phone.sees(ModelLoaded(load.op, 20), phone.phase("ready", LARGE))
    with breach("told before unload", "phone-0 ended swap 2 to large and did not advertise what it serves now"):
        phone.sees(NEWS, phone.ended(LARGE))


def failed_load(phone: Actor) -> ModelLoadFailed:
    """A swap of this phone comes to a load that fails."""
    unload, load = phone.unloads_for(LARGE), phone.loads(LARGE)
    phone.sees(ModelUnloaded(unload.op), phone.phase("loading", LARGE), load)
    return ModelLoadFailed(load.op, Reason.LOAD_FAILED)


def test_a_failed_load_brings_the_old_model_back(stage: Stage, phone: Actor) -> None:
    failed = failed_load(phone)
    phone.sees(failed, phone.phase("rollingBack", LARGE), phone.loads(SMALL))
    stage.wait(1)
    phone.sees(NEWS)


def test_a_roll_back_is_not_forgotten(stage: Stage, phone: Actor) -> None:
    phone.sees(failed_load(phone), phone.phase("failed", LARGE))
    stage.wait(1)
    with breach("intent is journalled", "phone-0 could not load the new model and did not load small again"):
        phone.sees(NEWS)


def test_a_roll_back_loads_the_old_model(phone: Actor) -> None:
    failed = failed_load(phone)
    with breach("intent is journalled", "phone-0 loads large where small has to come back"):
        phone.sees(failed, phone.loads(LARGE))


def test_after_a_roll_back_that_failed_nothing_has_to_come_back(stage: Stage, phone: Actor) -> None:
    failed = failed_load(phone)
    back = phone.loads(SMALL)
    phone.sees(failed, phone.phase("rollingBack", LARGE), back)
    phone.sees(ModelLoadFailed(back.op, Reason.LOAD_FAILED), phone.phase("failed", LARGE))
    stage.wait(1)
    phone.sees(NEWS)


def test_every_swap_ends(stage: Stage, phone: Actor) -> None:
    unload, load = phone.unloads_for(LARGE), phone.loads(LARGE)
    phone.sees(ModelUnloaded(unload.op), load)
    phone.sees(ModelLoaded(load.op, 20))
    stage.wait(400)
    with breach("swaps end", "phone-0 has not ended swap 2 to large, which is still unloading"):
        phone.sees(NEWS)


def test_a_swap_ends_once_and_before_the_next(phone: Actor) -> None:
    phone.swaps(LARGE)
    with breach("swaps end", "phone-0 ends swap 2 after swap 2"):
        phone.sees(NEWS, phone.ended(LARGE))
    phone.unloads_for(SMALL)
    phone.swap += 1
    with breach("swaps end", "phone-0 begins swap 4 while swap 3 is unloading"):
        phone.sees(NEWS, phone.phase("announcing", TINY))
