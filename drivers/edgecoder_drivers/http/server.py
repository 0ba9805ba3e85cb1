"""Serves the application: on loopback as it is, elsewhere with a token and TLS only."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
import uvicorn
from starlette.types import ASGIApp

from edgecoder.errors import ConfigError
from edgecoder_drivers.http.connection import BACKLOG, Connection, Door, Limits, limits_here
from edgecoder_drivers.http.guard import HEADER_BYTES_MAX, LOOPBACK

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
        """The names that a request may be addressed to."""
        own = f"[{self.host}]" if ":" in self.host else self.host
        return LOOPBACK | {own.lower(), *(name.lower() for name in self.names)}


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
            ssl_certfile=binding.certificate,
            ssl_keyfile=binding.key,
        )
        try:
            config.load()
        except (OSError, ValueError) as error:
            self._socket.close()
            hint = "give a PEM certificate and its key"
            raise ConfigError(str(binding.certificate), None, f"no certificate: {error}", hint) from None
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
        hint = "another agent may be running; stop it, or choose another port with --port"
        raise ConfigError("http.port", None, f"{binding.host}:{binding.port}: {error.strerror}", hint) from None
    listening.listen(BACKLOG)
    listening.setblocking(False)
    return listening
