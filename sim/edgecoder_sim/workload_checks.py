"""Relations of what users do: that it can be done, by somebody, before the run ends.

Decides whether the loads of a scenario can be simulated as written; see `scenario_checks`.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgecoder.core.ids import Role
from edgecoder.models.catalog import Catalog, CatalogEntry, Platform
from edgecoder.yamlio.document import Document
from edgecoder.yamlio.explain import Where, one_of
from edgecoder_sim.check_words import KEYS, role_devices, shortened, weights
from edgecoder_sim.scenario_model import (
    PLATFORM_OF,
    Amount,
    Group,
    PullLoad,
    RemovalLoad,
    Scenario,
    Source,
    SwapLoad,
    TaskLoad,
)


def check_workload(document: Document, scenario: Scenario, catalog: Catalog) -> None:
    """Check all loads. Raises ConfigError."""
    workload = scenario.workload
    for position, task in enumerate(workload.tasks):
        _task(document, scenario, catalog, ("workload", "tasks", position), task)
    for position, swap in enumerate(workload.swaps):
        _swap(document, scenario, catalog, ("workload", "swaps", position), swap)
    for position, pull in enumerate(workload.pulls):
        _pull(document, scenario, catalog, ("workload", "pulls", position), pull)
    for position, removal in enumerate(workload.removals):
        _sources(document, scenario, ("workload", "removals", position), removal)
    names = {
        "tasks": [task.name for task in workload.tasks],
        "swaps": [swap.name for swap in workload.swaps],
        "pulls": [pull.name for pull in workload.pulls],
        "removals": [removal.name for removal in workload.removals],
    }
    for key, of_kind in names.items():
        _names_differ(document, ("workload", key), of_kind)


def _sources(
    document: Document, scenario: Scenario, where: Where, load: TaskLoad | SwapLoad | PullLoad | RemovalLoad
) -> dict[Role, Group]:
    """The groups of a load that have nodes; there must be one."""
    groups = {role: group for role, group in scenario.groups(load.source).items() if group.count > 0}
    if not groups:
        problem = f"{load.name} comes from {load.source.value}, and there are none"
        raise document.error((*where, "source"), problem, "raise the group's count, or remove this load")
    return groups


def _amount(document: Document, where: Where, amount: Amount) -> None:
    if amount.mean > amount.max:
        problem = f"{where[-1]} has a mean of {amount.mean:g} and a max of {amount.max}"
        raise document.error((*where, "mean"), problem, "a mean is at most the max")


def _task(document: Document, scenario: Scenario, catalog: Catalog, where: Where, task: TaskLoad) -> None:
    groups = _sources(document, scenario, where, task)
    _amount(document, (*where, "prompt_bytes"), task.prompt_bytes)
    _amount(document, (*where, "output_tokens"), task.output_tokens)
    for role in groups:
        for device in role_devices(scenario, role).values():
            limit = scenario.node_config(role, device).prompt_bytes_max
            if task.prompt_bytes.max > limit:
                problem = f"{task.name} has prompts of up to {task.prompt_bytes.max} bytes, and a node takes {limit}"
                hint = f"lower it, or raise config.{KEYS[role]}.prompt_bytes_max"
                raise document.error((*where, "prompt_bytes", "max"), problem, hint)
    if task.model and task.min_param_size:
        problem = f"{task.name} asks both for a model and for a least size"
        raise document.error((*where, "model"), problem, "keep model or min_param_size")
    weights(document, (*where, "min_param_size"), task.min_param_size)
    weights(document, (*where, "model"), task.model)
    _servable(document, scenario, catalog, where, task)


def _servable(document: Document, scenario: Scenario, catalog: Catalog, where: Where, task: TaskLoad) -> None:
    """Some node has a model that the task may ask for."""
    written = document.get((*where, "min_param_size"))
    if isinstance(written, dict) and len(written) != len(task.min_param_size):
        problem = f"two keys of min_param_size of {task.name} are the same number"
        raise document.error((*where, "min_param_size"), problem, "keep one")
    served = _served(scenario, catalog)
    largest = max((entry.param_size or 0.0 for entry in served), default=0.0)
    for size, weight in task.min_param_size.items():
        if weight > 0 and size > largest:
            problem = (
                f"{task.name} wants models of {size:g} B or more, and the largest that a node can run has {largest:g} B"
            )
            raise document.error((*where, "min_param_size"), problem, "lower it, or install a larger model")
    for name, weight in task.model.items():
        if not catalog.knows(name):
            hint = one_of("use", (entry.model_id for entry in catalog.entries), name)
            raise document.error((*where, "model", name), f"{name} is not in the catalog", hint)
        if weight > 0 and not any(entry in served for entry in _meant(catalog, name)):
            problem = f"{task.name} asks for {name}, which no node has installed"
            raise document.error((*where, "model", name), problem, "install it on phones or agents")


def _meant(catalog: Catalog, name: str) -> list[CatalogEntry]:
    """The files that a name means, on any platform."""
    found = (catalog.find(name, platform) for platform in Platform)
    return [entry for entry in found if entry is not None]


def _served(scenario: Scenario, catalog: Catalog) -> list[CatalogEntry]:
    """The models that some node can run: from its disk, or because a swap pulls it."""
    served: list[CatalogEntry] = []
    for role, group in scenario.groups(Source.ALL).items():
        served += _runnable(scenario, catalog, role, group, pull=False)
    for swap in scenario.workload.swaps:
        for role, group in scenario.groups(swap.source).items() if swap.pull else ():
            wanted = [catalog.find(name, PLATFORM_OF[role]) for name, weight in swap.to.items() if weight > 0]
            pulled = _runnable(scenario, catalog, role, group, pull=True)
            served += [entry for entry in pulled if entry in wanted or not swap.to]
    return served


def _swap(document: Document, scenario: Scenario, catalog: Catalog, where: Where, swap: SwapLoad) -> None:
    groups = _sources(document, scenario, where, swap)
    _timing(document, scenario, where, swap, "storm")
    weights(document, (*where, "to"), swap.to)
    runnable = {role: _runnable(scenario, catalog, role, group, pull=swap.pull) for role, group in groups.items()}
    if not swap.to and not any(runnable.values()):
        problem = f"{swap.name} finds no model that a node of {swap.source.value} can run"
        raise document.error(where, problem, "install one that fits, or leave this swap out")
    for name, weight in swap.to.items():
        if not catalog.knows(name):
            hint = one_of("use", (entry.model_id for entry in catalog.entries), name)
            raise document.error((*where, "to", name), f"{name} is not in the catalog", hint)
        if weight > 0 and not any(catalog.find(name, PLATFORM_OF[role]) in runnable[role] for role in groups):
            raise document.error((*where, "to", name), *_unreachable(scenario, swap, name, groups))


def _timing(document: Document, scenario: Scenario, where: Where, load: SwapLoad | PullLoad, burst: str) -> None:
    """A load is either a steady stream or a burst, which begins before the run ends."""
    if (load.per_node_per_hour is None) == (load.at_s is None):
        have = "neither per_node_per_hour nor" if load.at_s is None else "both per_node_per_hour and"
        hint = f"give per_node_per_hour for a steady stream, or at_s for a {burst}"
        raise document.error(where, f"{load.name} has {have} at_s", hint)
    if load.at_s is None:
        for field in ("share_pct", "within_s"):
            if getattr(load, field) is not None:
                problem = f"{load.name} has {field} without at_s"
                raise document.error((*where, field), problem, f"remove {field}, or make it a {burst} with at_s")
    elif load.at_s >= scenario.duration_s and not shortened(document):
        problem = f"{load.name} begins at {load.at_s:g} s, and the run ends at {scenario.duration_s:g} s"
        raise document.error((*where, "at_s"), problem, "let it begin before duration_s")


def _pull(document: Document, scenario: Scenario, catalog: Catalog, where: Where, pull: PullLoad) -> None:
    groups = _sources(document, scenario, where, pull)
    _timing(document, scenario, where, pull, "crowd")
    weights(document, (*where, "to"), pull.to)
    runnable = {role: _runnable(scenario, catalog, role, group, pull=True) for role, group in groups.items()}
    lacked = {
        role: [entry for entry in runnable[role] if not _is_everywhere(catalog, role, group, entry)]
        for role, group in groups.items()
    }
    if not pull.to and not any(lacked.values()):
        problem = f"{pull.name} finds no model that a node of {pull.source.value} could run and lacks"
        raise document.error(where, problem, "add one to the catalog that fits, or leave this load out")
    for name, weight in pull.to.items():
        place = (*where, "to", name)
        if not catalog.knows(name):
            hint = one_of("use", (entry.model_id for entry in catalog.entries), name)
            raise document.error(place, f"{name} is not in the catalog", hint)
        found = {role: catalog.find(name, PLATFORM_OF[role]) for role in groups}
        if weight > 0 and not any(found[role] in runnable[role] for role in groups):
            devices = ", ".join(device for role in groups for device in role_devices(scenario, role))
            problem = f"{pull.name} pulls {name}, which runs on none of {devices}"
            raise document.error(place, problem, "choose a model that fits one of them")
        if weight > 0 and not any(found[role] in lacked[role] for role in groups):
            keys = " and ".join(KEYS[role] for role in groups)
            problem = f"{pull.name} pulls {name}, which all nodes of {pull.source.value} have from the beginning"
            raise document.error(place, problem, f"install it on fewer of {keys}, or choose another")
        is_nowhere = not scenario.cdn.reachable and not any(_is_somewhere(scenario, found[role]) for role in groups)
        if weight > 0 and is_nowhere:
            problem = f"{pull.name} pulls {name}, which nobody has, and cdn.reachable is false"
            raise document.error(place, problem, "install it on some nodes, or let the CDN be reached")


def _is_somewhere(scenario: Scenario, entry: CatalogEntry | None) -> bool:
    """Whether some node may have a file from the beginning."""
    catalog, groups = scenario.models(), scenario.groups(Source.ALL)
    return any(
        group.count > 0 and probability > 0 and catalog.find(name, PLATFORM_OF[role]) == entry
        for role, group in groups.items()
        for name, probability in group.installed.items()
    )


def _is_everywhere(catalog: Catalog, role: Role, group: Group, entry: CatalogEntry) -> bool:
    """Whether each node of a group that a file fits has it from the beginning."""
    return any(
        probability >= 1 and catalog.find(name, PLATFORM_OF[role]) == entry
        for name, probability in group.installed.items()
    )


def _unreachable(scenario: Scenario, swap: SwapLoad, name: str, groups: Mapping[Role, Group]) -> tuple[str, str]:
    """Problem and hint where no node can swap to a model."""
    if swap.pull:
        devices = ", ".join(device for role in groups for device in role_devices(scenario, role))
        return f"{swap.name} pulls {name}, which runs on none of {devices}", "choose a model that fits one of them"
    problem = f"{swap.name} swaps to {name}, which no node of {swap.source.value} can run from its disk"
    keys = " or ".join(KEYS[role] for role in groups)
    return problem, f"install it, on a device that it fits, in {keys}, or set pull: true"


def _runnable(scenario: Scenario, catalog: Catalog, role: Role, group: Group, *, pull: bool) -> list[CatalogEntry]:
    """The models that some node of a group can run: of those that it may have installed, or `pull` of all."""
    installed = [catalog.find(name, PLATFORM_OF[role]) for name, p in group.installed.items() if p > 0]
    devices = role_devices(scenario, role).values() if group.count > 0 else ()
    return [
        entry
        for entry in catalog.entries
        if (pull or entry in installed) and any(scenario.fits(entry, role, device) for device in devices)
    ]


def _names_differ(document: Document, where: Where, names: list[str]) -> None:
    """Results are kept by name, so each is used once."""
    for position, name in enumerate(names):
        if name in names[:position]:
            problem = f"{where[-1]} has {name} twice"
            raise document.error((*where, position, "name"), problem, "give each its own name")
