"""Routing on a stale board: mean response of the core's own routers, in service times.

100 servers with one slot each, exponential service of mean 1 s, Poisson arrivals at 8 routers, and a board of what the
servers advertise that is read once in 60 s. Every server is an
`Executor`, every router an `Origin` with the `ProbeRouter` (and its `Prober`) or the `CostRouter` of the core; messages
take 5 ms. First the bench itself is measured against closed forms, with choices that are no routers: random, two fresh
choices, and the one that had least on the stale board.

Left out of the node: gate, envelopes that expire, announcements and heartbeats (the board stands for them), swaps, and
hedging. An engine answers when its exponential time has passed, and nobody knows that time before: a server tells a
probe the mean of its queue, since every task asks for as many tokens.

Prints one JSON line. Goals: probe_07 1.45, probe_09 2.2; cost_07 is reported.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from functools import partial

from edgecoder.config import ClusterConfig, DeviceType, NodeConfig, Routing
from edgecoder.core.context import Context
from edgecoder.core.effects import Reply, RunTask, Send
from edgecoder.core.events import Completion, SubmitTask, TaskDone
from edgecoder.core.ids import LinkId, Micros, NodeId, TaskId
from edgecoder.core.rng import Stream
from edgecoder.errors import Reason
from edgecoder.mesh.executor import Executor
from edgecoder.mesh.origin import Origin
from edgecoder.mesh.router import Candidate
from edgecoder.mesh.soonest import make_router
from edgecoder.protocol import WORK_TOKENS_ANY
from edgecoder.wire.envelope import Envelope
from edgecoder.wire.messages import (
    Load,
    Message,
    Probe,
    ProbeReply,
    Release,
    TaskRequest,
    TaskResponse,
)
from edgecoder_sim.crypto import crypto, node_id
from edgecoder_sim.kernel import Kernel

SERVERS = 100
ROUTERS = 8
BOARD_US: Micros = 60_000_000
LATENCY_US: Micros = 5_000
SERVICE_US: Micros = 1_000_000
TOKENS = 1_000
"""Of every task, at as many tokens a second: one service time."""
WEEK_MS = 7 * 86_400_000
SERVER = NodeConfig(slots=1, task_queue_max=10_000, task_silence_ms=WEEK_MS, has_radio=False)


def _context(name: str, config: NodeConfig, rng_seed: int) -> Context:
    signer, _ = crypto(node_id(name), "bench", encoded=False)
    context = Context(ClusterConfig(network_id="bench"), config, signer, rng_seed)
    context.epoch = context.ops.epoch = 1
    return context


class Host:
    """The clock and the effects of one node."""

    def __init__(self, kernel: Kernel, context: Context) -> None:
        self.kernel = kernel
        self.context = context
        self._wake_us: Micros | None = None

    def act(self, what: Callable[[], object]) -> None:
        """Let the node do something now, and carry out what comes of it."""
        context = self.context
        context.now = self.kernel.now
        out = context.out = []
        what()
        for effect in out:
            if type(effect) is Send:
                frame = effect.frame
                assert isinstance(frame, Envelope)
                self.send(effect.link, frame.message)
            elif type(effect) is RunTask:
                self.run(effect)
            elif type(effect) is Reply:
                self.reply(effect)
        deadline = context.timers.next_deadline
        if deadline is not None and (self._wake_us is None or deadline < self._wake_us):
            self._wake_us = deadline
            self.kernel.call_at(max(deadline, self.kernel.now), self._wake, deadline)

    def _wake(self, deadline: Micros, _: object) -> None:
        if deadline == self._wake_us:
            self._wake_us = None
            self.act(lambda: self.context.timers.fire_due(self.kernel.now))

    def send(self, link: LinkId, message: Message) -> None:
        """Carry a message."""
        raise NotImplementedError

    def run(self, effect: RunTask) -> None:
        """Run a task."""
        raise NotImplementedError

    def reply(self, effect: Reply) -> None:
        """Tell the user."""
        raise NotImplementedError


class Server(Host):
    """An executor whose engine takes an exponential time. A link's number is that of the router at its other end."""

    def __init__(self, bench: Bench, number: int) -> None:
        super().__init__(bench.kernel, _context(f"server-{number}", SERVER, bench.rng_seed))
        self._bench = bench
        self.number = number
        self._service = Stream(bench.rng_seed, self.context.node_id, "service")
        self.executor = Executor(self.context, lambda _: "model", lambda: None, self)

    def tokens_per_s(self) -> int:
        """See `executor.Able`."""
        return TOKENS

    def work_tokens_max(self) -> int:
        """See `executor.Able`."""
        return WORK_TOKENS_ANY

    def run(self, effect: RunTask) -> None:
        """See `Host`."""
        service_us = max(1, round(-math.log(1.0 - self._service.uniform()) * SERVICE_US))
        self.kernel.call_at(self.kernel.now + service_us, self._done, TaskDone(effect.op, TOKENS))

    def _done(self, completion: Completion, _: object) -> None:
        self.act(lambda: self.context.ops.complete(completion))

    def take(self, link: LinkId, message: Message) -> None:
        """A message of a router."""
        self.act(partial(self._handle, link, message))

    def _handle(self, link: LinkId, message: Message) -> None:
        if isinstance(message, TaskRequest):
            self.executor.offer(message, lambda response: self.context.send(link, response, WEEK_MS), link)
        elif isinstance(message, Probe):
            self.context.send(link, self.executor.probe(message, link), WEEK_MS)
        elif isinstance(message, Release):
            self.executor.reservations.take(link, message.task_id)

    def send(self, link: LinkId, message: Message) -> None:
        """See `Host`."""
        at_us = self.kernel.now + LATENCY_US
        self.kernel.call_at(at_us, self._bench.routers[link].take, self.number, message)


class Router(Host):
    """An origin. A link's number is that of the server at its other end."""

    def __init__(self, bench: Bench, number: int, routing: Routing) -> None:
        config = NodeConfig(
            routing=routing,
            origin_tasks_max=1_000_000,
            capabilities_ttl_ms=WEEK_MS,
            task_silence_ms=WEEK_MS,
            task_deadline_ms=WEEK_MS,
        )
        super().__init__(bench.kernel, _context(f"router-{number}", config, bench.rng_seed))
        self._bench = bench
        self.number = number
        self._servers = {server.context.node_id: server.number for server in bench.servers}
        self.origin = Origin(self.context, make_router(config, self.context.stream("routing")), self)
        self._began: dict[int, Micros] = {}

    def submit(self) -> None:
        """A user asks."""
        command = self._bench.next_command()
        self._began[command] = self.kernel.now
        task = SubmitTask(command, prompt="", model=None, min_param_size=0.0, max_tokens=TOKENS, stream=False)
        self.act(lambda: self.origin.submit(task))

    def reply(self, effect: Reply) -> None:
        """See `Host`."""
        self._bench.done(self._began.pop(effect.command))

    def take(self, link: LinkId, message: Message) -> None:
        """A message of a server."""
        self.act(partial(self._handle, link, message))

    def _handle(self, link: LinkId, message: Message) -> None:
        if isinstance(message, TaskResponse):
            self.origin.response(link, message)
        elif isinstance(message, ProbeReply):
            self.origin.probe_reply(link, message)

    def send(self, link: LinkId, message: Message) -> None:
        """See `Host`."""
        at_us = self.kernel.now + LATENCY_US
        self.kernel.call_at(at_us, self._bench.servers[link].take, self.number, message)

    # -- what the rest of the node tells an origin (see `reach.Reach`) ------------------------------------------------

    def candidates(self, _: TaskRequest, tried: set[NodeId]) -> list[Candidate]:
        """The board."""
        board = self._bench.board
        return board if not tried else [candidate for candidate in board if candidate.node not in tried]

    def link_to(self, node: NodeId) -> LinkId | None:
        """Every server is linked."""
        return self._servers[node]

    def coordinator(self) -> None:
        """There is none."""

    def offer_here(self, request: TaskRequest) -> ProbeReply:
        """It has no model."""
        return ProbeReply(task_id=request.task_id, reason=Reason.NO_MODEL)

    def dial(self, node: NodeId, on_link: Callable[[LinkId | None], None], _: int = 0) -> None:
        """See `prober.Near`; every server has a link."""
        on_link(self.link_to(node))

    def goes_wide(self, _: NodeId, __: TaskRequest) -> bool:
        """There is one kind of link."""
        return False

    def upload_ms(self, _: LinkId, __: TaskRequest) -> int:
        """Links take no time."""
        return 0

    def run_here(self, request: TaskRequest, sink: Callable[[TaskResponse], None]) -> None:
        """Never chosen."""
        raise NotImplementedError

    def cancel_here(self, task: TaskId, reason: Reason, attempt: int) -> None:
        """Never chosen."""
        raise NotImplementedError

    def note_answer(self, node: NodeId, link: LinkId, response: TaskResponse, asked_at: int) -> None:
        """See `origin.Reach`."""

    def note_outcome(self, node: NodeId, latency_ms: int | None) -> None:
        """Nobody fails here."""

    def note_probe(self, node: NodeId, answered: bool) -> None:
        """Everybody answers here."""


class Bench:
    """Servers, routers, arrivals and the board."""

    def __init__(self, policy: str, load: float, rng_seed: int) -> None:
        self.kernel = Kernel()
        self.rng_seed = rng_seed
        self.servers = [Server(self, number) for number in range(SERVERS)]
        self.routers: list[Router] = []
        self.board: list[Candidate] = []
        self._commands = 0
        self._gap_us = SERVICE_US / (load * SERVERS)
        self._arrivals = Stream(rng_seed, b"", "arrivals")
        self._choices = Stream(rng_seed, b"", "choices")
        self._warm_us: Micros = 0
        self._end_us: Micros = 0
        self._next_us = 0.0
        self._sum_us = self._count = self._expected = 0
        if policy in CHOICES:
            self._route: Callable[[], None] = partial(self._offer, CHOICES[policy])
        else:
            self.routers = [Router(self, number, Routing(policy)) for number in range(ROUTERS)]
            self._route = lambda: self._choices.choice(self.routers).submit()
        self.kernel.every(BOARD_US, 0, self._read_board)
        self.kernel.call_at(0, self._arrive)

    def mean_response(self, warm_s: int, measured_s: int) -> float:
        """Of the tasks that arrive between the warm-up and the end, all of which are waited for, in service times."""
        self._warm_us = warm_s * 1_000_000
        self._end_us = self._warm_us + measured_s * 1_000_000
        self.kernel.run(self._end_us)
        while self._count < self._expected:
            self.kernel.run(self.kernel.now + BOARD_US)
        return self._sum_us / self._count / SERVICE_US

    def next_command(self) -> int:
        """A fresh command id."""
        self._commands += 1
        return self._commands

    def done(self, began_us: Micros) -> None:
        """A task that began then is answered."""
        if self._warm_us <= began_us < self._end_us:
            self._sum_us += self.kernel.now - began_us
            self._count += 1

    def _arrive(self, _: object, __: object) -> None:
        if self.kernel.now >= self._end_us:
            return
        self._expected += self.kernel.now >= self._warm_us
        self._route()
        # Rounded once, from the sum: rounding each gap up would thin the arrivals out.
        self._next_us -= math.log(1.0 - self._arrivals.uniform()) * self._gap_us
        self.kernel.call_at(max(self.kernel.now, round(self._next_us)), self._arrive)

    def _read_board(self, _: object, __: object) -> None:
        self.board = [
            Candidate(
                server.context.node_id,
                7.0,
                Load.of(min(65_535, server.executor.tasks)),
                DeviceType.LAPTOP,
                100,
                None,
                0.0,
                100,
                tokens_per_s=TOKENS,
                age_ms=0,
            )
            for server in self.servers
        ]
        least = min(candidate.load.tasks for candidate in self.board)
        self.least = next(number for number, candidate in enumerate(self.board) if candidate.load.tasks == least)

    # -- choices without a router --------------------------------------------------------------------------------------

    def _offer(self, choose: Callable[[Bench, Stream], Server]) -> None:
        server, began_us, command = choose(self, self._choices), self.kernel.now, self.next_command()
        request = TaskRequest(
            task_id=command.to_bytes(16, "big"),
            prompt="",
            model=None,
            min_param_size=0.0,
            max_tokens=TOKENS,
            deadline_ms=WEEK_MS,
            stream=False,
        )

        def sink(response: TaskResponse) -> None:
            if response.index == 1:
                self.done(began_us)

        server.act(lambda: server.executor.offer(request, sink, None))


def _random(bench: Bench, stream: Stream) -> Server:
    return stream.choice(bench.servers)


def _two_fresh(bench: Bench, stream: Stream) -> Server:
    first, second = stream.choice(bench.servers), stream.choice(bench.servers)
    while second is first:
        second = stream.choice(bench.servers)
    return first if first.executor.tasks <= second.executor.tasks else second


def _stale_argmin(bench: Bench, _: Stream) -> Server:
    return bench.servers[bench.least]


CHOICES: dict[str, Callable[[Bench, Stream], Server]] = {
    "random": _random,
    "two": _two_fresh,
    "argmin": _stale_argmin,
}


def closed_form(policy: str, load: float) -> float:
    """Mean response in service times: M/M/1; two fresh choices (Vvedenskaya, Dobrushin and Karpelevich 1996); the least
    on a stale board, which gets every task until the next reading."""
    if policy == "random":
        return 1 / (1 - load)
    if policy == "two":
        return float(sum(load ** (2**i - 2) for i in range(1, 12)))
    return 1 + load * SERVERS * BOARD_US / SERVICE_US / 2


def measure(policy: str, load: float, warm_s: int, measured_s: int, rng_seed: int = 1) -> float:
    """The mean response of one policy."""
    return Bench(policy, load, rng_seed).mean_response(warm_s, measured_s)


CHECKS = {
    ("random", 0.5): 1_000,
    ("random", 0.7): 1_500,
    ("two", 0.5): 600,
    ("two", 0.7): 600,
    ("two", 0.9): 900,
    ("argmin", 0.7): 1_200,
}
"""Seconds that are measured with --quick; four times as many without."""
ROWS = {"probe_07": ("probe", 0.7, 200), "cost_07": ("cost", 0.7, 180), "probe_09": ("probe", 0.9, 300)}
LONGER = 4
WARM_S = 60


def main() -> None:
    """Measure every row and print the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the simulated time")
    arguments = parser.parse_args()
    longer = 1 if arguments.quick else LONGER
    metrics: dict[str, float] = {}
    for (policy, load), measured_s in CHECKS.items():
        name = f"{policy}_{round(load * 10):02}"
        metrics[name] = round(measure(policy, load, WARM_S, measured_s * longer), 3)
        metrics[f"{name}_over_closed_form"] = round(metrics[name] / closed_form(policy, load), 4)
    for name, (policy, load, measured_s) in ROWS.items():
        metrics[name] = round(measure(policy, load, WARM_S, measured_s * longer), 3)
    conditions = {
        "unit": "service times",
        "servers": SERVERS,
        "routers": ROUTERS,
        "board_age_s": BOARD_US // 1_000_000,
        "latency_ms": LATENCY_US // 1000,
        "quick": arguments.quick,
    }
    print(json.dumps({"benchmark": "routing", "metrics": metrics, "conditions": conditions}))


if __name__ == "__main__":
    main()
