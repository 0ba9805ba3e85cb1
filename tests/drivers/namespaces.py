"""Networks of their own on this machine: hosts, a road between them, and homes behind a router with NAT.

Each host is a network namespace of Linux with a link to a bridge, which stands for the internet or for the network of a
home. Processes that are begun within one see nothing else. Root may make them where there are `ip` and `nft`.

A road carries everything at once: delay and loss are the chaos proxy's (`chaos_proxy`), since not every kernel has
netem.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")
_CLONE_NEWNET: Final = 0x40000000
"""sched.h; see setns(2)."""
ROAD: Final = "198.51.100"
"""Its first three bytes: TEST-NET-2 of RFC 5737."""
HOME: Final = "10.7.0"
ROUTER_RULES: Final = """
table ip router {
    chain out { type nat hook postrouting priority 100; oifname "wan" masquerade; }
    chain pass {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname "home" accept
    }
}
"""
"""Of a home: who is within calls out under the router's address, and nobody calls in."""


def _said(*command: str, given: str | None = None) -> str:
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=30)
    except subprocess.TimeoutExpired as error:
        raise OSError(str(error)) from None
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


class Host:
    """A machine of its own, as far as the network goes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._within = ThreadPoolExecutor(4, thread_name_prefix=name, initializer=self._enter)

    def make(self) -> None:
        """Raises OSError where there cannot be one."""
        _said("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def _enter(self) -> None:
        with Path(f"/run/netns/{self.name}").open(encoding="utf-8") as space:
            if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def do(self, what: Callable[[], T]) -> T:
        """Do something on this host: its sockets are this host's, and so are those of the processes that it begins."""
        return self.begin(what).result()

    def begin(self, what: Callable[[], T]) -> Future[T]:
        """The same, beside others: up to four."""
        return self._within.submit(what)

    def ip(self, *words: str) -> str:
        """The command `ip` for this host."""
        return _said("ip", "-n", self.name, *words)

    def rules(self, rules: str) -> None:
        """The command `nft` for this host."""
        self.do(lambda: _said("nft", "-f", "-", given=rules))

    def forward(self) -> None:
        """Be a router."""
        self.do(lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="utf-8"))

    def remove(self) -> None:
        """With all links of its; what runs there still keeps an empty network."""
        self._within.shutdown()
        with suppress(OSError):  # it may not have come to be
            _said("ip", "netns", "delete", self.name)


class Network:
    """Hosts, the road, and homes."""

    def __init__(self) -> None:
        self._label = f"ec-{os.urandom(3).hex()}"
        self._hosts: list[Host] = []
        self._ports: dict[str, tuple[Host, str]] = {}

    def lay_road(self) -> None:
        """What hosts and homes are on. Raises OSError where there cannot be one."""
        self._road = self._host("road")
        self._bridge(self._road, "road")

    def _host(self, name: str) -> Host:
        self._hosts.append(Host(f"{self._label}-{name}"))
        self._hosts[-1].make()
        return self._hosts[-1]

    @staticmethod
    def _bridge(host: Host, name: str) -> None:
        host.ip("link", "add", name, "type", "bridge")
        host.ip("link", "set", name, "up")

    def _plug(self, host: Host, card: str, at: Host, bridge: str) -> None:
        """A cable from a host to a bridge."""
        port = f"p{len(self._ports)}"
        at.ip("link", "add", port, "type", "veth", "peer", "name", card, "netns", host.name)
        at.ip("link", "set", port, "master", bridge, "up")
        host.ip("link", "set", card, "up")
        self._ports[f"{host.name}/{card}"] = (at, port)

    def on_road(self, name: str, number: int) -> Host:
        """A host at `ROAD.number` that anybody can call."""
        host = self._host(name)
        self._plug(host, "eth0", self._road, "road")
        host.ip("address", "add", f"{ROAD}.{number}/24", "dev", "eth0")
        return host

    def home(self, name: str, number: int) -> Host:
        """The router of a home, with `ROAD.number` to the outside."""
        router = self._host(name)
        self._plug(router, "wan", self._road, "road")
        router.ip("address", "add", f"{ROAD}.{number}/24", "dev", "wan")
        self._bridge(router, "home")
        router.ip("address", "add", f"{HOME}.1/24", "dev", "home")
        router.forward()
        router.rules(ROUTER_RULES)
        return router

    def at_home(self, router: Host, name: str, number: int) -> Host:
        """A host at `HOME.number` behind a router."""
        host = self._host(name)
        self._plug(host, "eth0", router, "home")
        host.ip("address", "add", f"{HOME}.{number}/24", "dev", "eth0")
        host.ip("route", "add", "default", "via", f"{HOME}.1")
        return host

    def cut(self, host: Host, card: str, *, on: bool = True) -> None:
        """Pull a host's cable, or put it back: what is sent is lost, and nobody is told."""
        at, port = self._ports[f"{host.name}/{card}"]
        at.ip("link", "set", port, "down" if on else "up")

    def remove(self) -> None:
        """All of it."""
        for host in reversed(self._hosts):
            host.remove()
        self._hosts.clear()


@contextmanager
def network() -> Iterator[Network]:
    """A road without hosts. Raises OSError where there cannot be one."""
    made = Network()
    try:
        made.lay_road()
        yield made
    finally:
        made.remove()


def why_not() -> str:
    """What keeps this machine from having networks of their own; nothing: it can."""
    if missing := [tool for tool in ("ip", "nft") if shutil.which(tool) is None]:
        return f"no command `{missing[0]}`"
    try:
        with network() as tried:
            tried.home("probe", 1)
    except (OSError, BrokenExecutor) as error:
        return str(error)
    return ""
