"""The devices of a record: kinds of machines, and how fast they load, decode and hash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from edgecoder.config import DeviceType, NodeConfig
from edgecoder.core.ids import Role
from edgecoder_sim.fit.figures import Figure, default, measured, told
from edgecoder_sim.fit.life import Answer, Life, Span
from edgecoder_sim.fit.record import Machine
from edgecoder_sim.fit.samples import rounded, samples_of
from edgecoder_sim.profiles import DEVICES, PROMPT_BYTES_PER_TOKEN
from edgecoder_sim.scenario_model import PLATFORM_OF, node_defaults

BASE_OF: Final = {
    DeviceType.PHONE: "phone_mid",
    DeviceType.LAPTOP: "laptop",
    DeviceType.WORKSTATION: "workstation",
}
"""Whose figures stand in for those that are not in the journals."""
GB_PER_S_MIN: Final = 0.001
OTHER_SIZE: Final = 1.5
"""Files that differ by so much tell the fixed part of a load from the rest."""


class Kind(NamedTuple):
    """Machines that are alike."""

    name: str
    nodes: int
    base: str
    """The built-in device that the rest is taken from."""
    fields: dict[str, Figure]


def kinds(machines: Sequence[Machine], role: Role) -> list[Kind]:
    """The kinds of the machines of a role, the most common first."""
    groups: dict[tuple[str, int, int, bool], list[Machine]] = {}
    for machine in machines:
        config = machine.head.config
        key = (config.device_type.value, config.memory_mb, config.slots, config.has_radio)
        groups.setdefault(key, []).append(machine)
    ordered = sorted(groups.values(), key=len, reverse=True)
    names = [role.value if len(ordered) == 1 else f"{role.value}-{index + 1}" for index in range(len(ordered))]
    return [Kind(name, len(group), *_described(group, role)) for name, group in zip(names, ordered, strict=True)]


def _described(group: Sequence[Machine], role: Role) -> tuple[str, dict[str, Figure]]:
    head = group[0].head
    base = "server" if role is Role.COORDINATOR else BASE_OF[head.config.device_type]
    says = "of its configuration"
    fields = {
        "device_type": told(head.config.device_type.value, says),
        "platform": told(PLATFORM_OF.get(role, head.platform).value, says),
        "memory_mb": told(max(512, head.config.memory_mb), says),
        "slots": told(head.config.slots, says),
        "ble": told(head.config.has_radio, says),
    }
    lives = [life for machine in group for life in machine.lives]
    if role is not Role.COORDINATOR:
        fields |= {"battery_pct": _battery(lives), **_loads(lives), **_decoding(lives, base), **_hashing(lives)}
    return base, fields


def _battery(lives: Sequence[Life]) -> Figure:
    told_of = [life.power for life in lives if life.power is not None]
    if not told_of:
        return measured([100, 100], "nobody told them what they run on, so they took it for a full battery")
    if all(power.on_external_power for power in told_of):
        return measured(None, f"{len(told_of)} lives were on external power at first")
    charges = [power.battery_pct for power in told_of if not power.on_external_power]
    return measured([min(charges), max(charges)], f"{len(charges)} of {len(told_of)} lives began on a battery")


def _loads(lives: Sequence[Life]) -> dict[str, Figure]:
    spans = [span for life in lives for span in life.loads]
    failed = sum(life.failed_loads for life in lives)
    share = {}
    if failed:
        pct = rounded(100 * failed / (failed + len(spans)))
        share["load_failure_pct"] = measured(pct, f"{failed} of {failed + len(spans)} loads failed")
    if not spans:
        return share
    base_ms, rate = _line(spans)
    rates = samples_of(_gb_per_s(span.file_bytes, span.took_us - base_ms * 1000) for span in spans)
    says = f"{len(spans)} loads; journals do not show whether a file was in memory, so a warm one is as slow"
    fixed = "from files of different sizes" if base_ms else "the files differ too little in size to tell it"
    return {
        "load_base_ms": measured(base_ms, fixed),
        "load_cold_gb_per_s": measured(rate, says, rates),
        "load_warm_gb_per_s": measured(rate, says, rates),
        "load_slow_pct": measured(0, "counted in the rate"),
        **share,
    }


def _line(spans: Sequence[Span]) -> tuple[float, float]:
    """Fixed part in ms, and GB/s, of loads."""
    sizes = np.array([span.file_bytes for span in spans], dtype=np.float64)
    took = np.array([span.took_us for span in spans], dtype=np.float64)
    if len(spans) >= 3 and sizes.max() >= OTHER_SIZE * sizes.min():
        slope, fixed = np.polyfit(sizes, took, 1)
        if slope > 0 and fixed > 0:
            return rounded(float(fixed) / 1000), max(GB_PER_S_MIN, rounded(1 / (1000 * float(slope))))
    found = samples_of(_gb_per_s(span.file_bytes, span.took_us) for span in spans)
    assert found is not None
    return 0.0, max(GB_PER_S_MIN, rounded(found.median))


def _decoding(lives: Sequence[Life], base: str) -> dict[str, Figure]:
    whole = [answer for life in lives for answer in life.answers if _is_timed(answer)]
    if not whole:
        return {}
    speeds = samples_of(_gb_per_s(answer.file_bytes, _token_us(answer)) for answer in whole)
    rates = samples_of(1e6 / _token_us(answer) for answer in whole)
    assert speeds is not None
    assert rates is not None
    says = f"answers of {len(whole)} tasks, {rates.text('tokens/s')}: bytes of the model times tokens a second"
    fields = {
        "memory_bandwidth_gb_per_s": measured(max(GB_PER_S_MIN, rounded(speeds.median)), says, speeds),
        "decode_efficiency_pct": measured(100, "the rate above is what decoding reached"),
    }
    ratios = samples_of(ratio for answer in whole if (ratio := _prefill_ratio(answer)) is not None)
    if ratios is not None:
        says = f"time to the first part of {ratios.count} answers"
        fields["prefill_per_decode"] = measured(min(1000.0, max(0.01, rounded(ratios.median))), says, ratios)
    else:
        says = "no answer shows it"
        fields["prefill_per_decode"] = default(DEVICES[base].prefill_per_decode, says)
    return fields


def _is_timed(answer: Answer) -> bool:
    is_whole = answer.first is not None and answer.end is not None and answer.file_bytes > 0
    return is_whole and answer.tokens > answer.first_tokens and answer.end > answer.first  # type: ignore[operator]


def _token_us(answer: Answer) -> float:
    assert answer.first is not None
    assert answer.end is not None
    return (answer.end - answer.first) / (answer.tokens - answer.first_tokens)


def _prefill_ratio(answer: Answer) -> float | None:
    """Prompt tokens a second ÷ decoded tokens a second."""
    assert answer.first is not None
    took_us = answer.first - answer.begin - answer.first_tokens * _token_us(answer)
    tokens = answer.prompt_bytes / PROMPT_BYTES_PER_TOKEN
    return tokens / took_us * _token_us(answer) if took_us > 0 and tokens else None


def _hashing(lives: Sequence[Life]) -> dict[str, Figure]:
    found = samples_of(_gb_per_s(span.file_bytes, span.took_us) for life in lives for span in life.hashes)
    if found is None:
        return {}
    says = f"SHA-256 of {found.count} files that had come: {found.text('GB/s')}"
    return {"hash_gb_per_s": measured(max(GB_PER_S_MIN, rounded(found.median)), says, found)}


def _gb_per_s(size_bytes: float, took_us: float) -> float:
    return max(GB_PER_S_MIN, size_bytes / max(took_us, 1.0) / 1000)


def settings(machines: Sequence[Machine], kind: Kind, decided: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The fields of the nodes' configuration that differ from what such a device has in the simulator, and those in
    which the nodes differ from each other: there the most common value counts. `decided` are left out."""
    base = node_defaults(DEVICES[kind.base])
    chosen: dict[str, Any] = {}
    uneven = []
    for name in NodeConfig.__struct_fields__:
        if name in decided:
            continue
        values = [getattr(machine.head.config, name) for machine in machines]
        value = max(values, key=values.count)
        if any(other != value for other in values):
            uneven.append(name)
        if value != getattr(base, name):
            chosen[name] = getattr(value, "value", value)
    return chosen, uneven
