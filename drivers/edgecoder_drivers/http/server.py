"""Serves the application: on loopback as it is, elsewhere with a token and TLS only."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import uvicorn
from starlette.types import ASGIApp

from edgecoder.errors import ConfigError
from edgecoder_drivers.http.connection import BACKLOG, Connection, Door, Limits, limits_here
from edgecoder_drivers.http.guard import HEADER_BYTES_MAX, LOOPBACK
from edgecoder_drivers.http.tls import context_of, names_of

PORT = 4302
"""The seed's."""


class Binding(msgspec.Struct, frozen=True):
    """Where the control server listens."""

    host: str = "127.0.0.1"
    port: int = PORT
    token: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    names: tuple[str, ...] = ()
    """Further names under which it may be asked."""

    def validate(self) -> None:
        """Raises ConfigError where others could reach it without a token, or in the clear."""
        if (self.certificate is None) is not (self.key is None):
            raise ConfigError("http.tls", None, "certificate and key come together", "give both, or neither")
        self.context()
        if self.is_loopback:
            return
        try:
            socket.getaddrinfo(self.host, None)
        except OSError as error:
            hint = "give an address of this machine"
            raise ConfigError("http.host", None, f"{self.host!r} is none: {error.strerror}", hint) from None
        if not self.token:
            hint = "set a token, or bind to 127.0.0.1"
            raise ConfigError("http.host", None, f"{self.host} can be reached by others, and there is no token", hint)
        if self.certificate is None or self.key is None:
            hint = "give a certificate and its key, or bind to 127.0.0.1"
            raise ConfigError("http.host", None, f"{self.host} can be reached by others, and there is no TLS", hint)
        if not self.hosts - LOOPBACK:
            hint = "say it with --name, or in the certificate"
            raise ConfigError("http.host", None, f"{self.host} is no name under which it could be asked", hint)

    def context(self) -> ssl.SSLContext | None:
        """What TLS needs, where there is TLS. Raises ConfigError."""
        return None if self.certificate is None or self.key is None else context_of(self.certificate, self.key)

    def url(self, port: int) -> str:
        """Where it is asked, on the port that it got."""
        scheme = "http" if self.certificate is None else "https"
        host = self.host if not self._is_any else next(iter(self._given), "localhost")
        return f"{scheme}://{_in_url(host)}:{port}"

    @property
    def is_loopback(self) -> bool:
        """Whether nobody else can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def hosts(self) -> frozenset[str]:
        """The names that a request may be addressed to: those of this machine's loopback, and those that the user gave,
        the certificate's among them. Raises ConfigError."""
        own = () if self._is_any else (self.host,)
        return LOOPBACK | {_in_url(name).lower() for name in (*own, *self._given)}

    @property
    def _given(self) -> tuple[str, ...]:
        return (*self.names, *(() if self.certificate is None else names_of(self.certificate)))

    @property
    def _is_any(self) -> bool:
        """Whether it is all addresses of the machine, and so the name of none."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return not self.host


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


_UNBOUND: Final = {
    errno.EADDRINUSE: ("http.port", "another agent may be running; stop it, or choose another port with --port"),
    errno.EADDRNOTAVAIL: ("http.host", "this machine has no such address; give one of its own with --host"),
    errno.EACCES: ("http.port", "ports below 1024 are the system's; choose another one with --port"),
}


class _Quiet(uvicorn.Server):
    """Leaves signals to the agent."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing is captured."""
        yield


class ControlServer:
    """One server on the running loop."""

    def __init__(self, app: ASGIApp, binding: Binding, limits: Limits | None = None) -> None:
        """Raises ConfigError where the binding is not allowed, or the port is taken."""
        binding.validate()
        bounds = limits or limits_here()
        self._socket = _listen(binding, bounds)
        self.port: int = self._socket.getsockname()[1]
        waiting: dict[Connection, None] = {}
        config = uvicorn.Config(
            app,
            log_config=None,
            lifespan="off",
            server_header=False,
            access_log=False,
            backlog=BACKLOG,
            timeout_keep_alive=bounds.keep_alive_s,
            timeout_graceful_shutdown=bounds.stop_s,
            h11_max_incomplete_event_size=HEADER_BYTES_MAX,
            http=partial(Connection, limits=bounds, door=self._socket, waiting=waiting),  # type: ignore[arg-type]
            proxy_headers=False,
            ws="none",
        )
        config.load()
        config.ssl = binding.context()
        self._server = _Quiet(config)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Serve from now on."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="edgecoder http")

    async def stop(self) -> None:
        """Take no more requests and let those that are under way end."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._socket.close()


def _listen(binding: Binding, limits: Limits) -> Door:
    family = socket.AF_INET6 if ":" in binding.host else socket.AF_INET
    listening = Door(family, socket.SOCK_STREAM).open(limits)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((binding.host, binding.port))
    except OSError as error:
        listening.close()
        what, hint = _UNBOUND.get(error.errno or 0, ("http.port", "choose another address or port"))
        raise ConfigError(what, None, f"{binding.host}:{binding.port}: {error.strerror}", hint) from None
    listening.listen(BACKLOG)
    listening.setblocking(False)
    return listening
