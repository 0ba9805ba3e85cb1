"""The networks that this machine is on, and which of their addresses are spoken at or believed.

Multicast DNS does not leave a network, so an announcement can only be of somebody on it: an address of another network
is not believed, whoever announces it. Nor is a loopback address, unless loopback is where one listens: else somebody on
the network could have this machine dial its own services.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

import psutil

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
_ANY = ("0.0.0.0", "::")  # noqa: S104 - they are looked at, not bound to


def own_interfaces() -> list[Interface]:
    """The addresses of this machine that are up, each with its network."""
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    return [
        _interface(each.address, each.netmask)
        for name, addresses in psutil.net_if_addrs().items()
        for each in addresses
        if name in up and each.family in (socket.AF_INET, socket.AF_INET6) and each.netmask
    ]


def _interface(address: str, netmask: str) -> Interface:
    bare = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(bare, ipaddress.IPv4Address):
        return ipaddress.IPv4Interface(f"{bare}/{netmask}")
    return ipaddress.IPv6Interface(f"{bare}/{int(ipaddress.IPv6Address(netmask)).bit_count()}")


def speaking_at(chosen: Sequence[str] = ()) -> list[Interface]:
    """Where to speak and listen: at the chosen addresses that this machine has; where none is chosen, or every one, at
    all of IPv4 but loopback. IPv6 addresses of one link count where they are chosen."""
    own = own_interfaces()
    named = [each for each in chosen if each not in _ANY]
    if named:
        return [each for each in own if str(each.ip) in named]
    return [each for each in own if each.version == 4 and not each.ip.is_loopback]


def is_near(address: str, at: Sequence[Interface]) -> bool:
    """Whether somebody on one of these networks may have this address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if ip.is_unspecified or ip.is_multicast or (ip.version == 6 and ip.is_link_local):  # the last: of which link?
        return False
    return any(ip.version == each.version and ip in each.network for each in _with_ipv6(at))


def _with_ipv6(at: Sequence[Interface]) -> list[Interface]:
    """These and the IPv6 networks of this machine, where it is not loopback that is listened at: an announcement over
    IPv4 names addresses of both."""
    if all(each.ip.is_loopback for each in at):
        return list(at)
    return [*at, *(each for each in own_interfaces() if each.version == 6 and not each.ip.is_loopback)]
