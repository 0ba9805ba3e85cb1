"""A client of the control port: requests, their problems as errors, and events as they come."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, Self
from urllib.parse import quote

import httpx2
import typer

from edgecoder.errors import ConfigError, DriverError, EdgeCoderError

URL = "http://127.0.0.1:4302"
CONNECT_S = 5.0
ANSWER_S = 60.0
"""For an answer that waits for nothing; swaps, pulls and tasks are waited for as long as they take."""

Url = Annotated[str, typer.Option("--url", envvar="EDGECODER_URL", help="Where the agent listens.")]
Token = Annotated[
    str | None, typer.Option("--token", envvar="EDGECODER_TOKEN", help="The agent's token, if it has one.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class AgentSilent(DriverError):
    """No agent answers there."""


class Refusal(EdgeCoderError):
    """The agent has refused: what, why, and the next step."""

    def __init__(self, problem: dict[str, Any]) -> None:
        self.code = str(problem.get("code", "unknown"))
        detail = f" ({problem['detail']})" if problem.get("detail") else ""
        hint = f"; {problem['hint']}" if problem.get("hint") else ""
        super().__init__(f"{problem.get('title', 'refused')}{detail}{hint}")


class Event(NamedTuple):
    """One server-sent event."""

    name: str
    value: Any


class Control:
    """An agent that is asked."""

    def __init__(self, url: str, token: str | None) -> None:
        """Raises ConfigError where `url` is none."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        if not url.startswith(("http://", "https://")):
            raise ConfigError("--url", None, f"{url!r} is no address", f"give one such as {URL}")
        self._url = url
        self._client = httpx2.Client(base_url=url, headers=headers, timeout=httpx2.Timeout(ANSWER_S, connect=CONNECT_S))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str) -> Any:
        """The JSON at a path. Raises Refusal, AgentSilent."""
        return self._ask("GET", path)

    def post(self, path: str, value: dict[str, Any], *, is_waited_for: bool = False) -> Any:
        """Send a value."""
        return self._ask("POST", path, value, is_waited_for=is_waited_for)

    def delete(self, path: str) -> Any:
        """Delete what is there."""
        return self._ask("DELETE", path)

    def events(self, method: str, path: str, value: dict[str, Any] | None = None) -> Iterator[Event]:
        """Events as they come, to the end."""
        timeout = httpx2.Timeout(None, connect=CONNECT_S)
        try:
            with self._client.stream(method, path, json=value, timeout=timeout) as response:
                if response.status_code >= 400:
                    response.read()
                    _check(response)
                name = ""
                for line in response.iter_lines():
                    if line.startswith("event: "):
                        name = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        yield Event(name, json.loads(line.removeprefix("data: ")))
        except httpx2.TransportError as error:
            raise self._silent(error) from None

    def download(self, path: str) -> Iterator[tuple[bytes, int]]:
        """The bytes at a path, in parts, and how many there are in all."""
        try:
            with self._client.stream("GET", path) as response:
                if response.status_code >= 400:
                    response.read()
                    _check(response)
                total = int(response.headers.get("content-length", 0))
                for part in response.iter_bytes(1 << 20):
                    yield part, total
        except httpx2.TransportError as error:
            raise self._silent(error) from None

    def _ask(self, method: str, path: str, value: Any = None, *, is_waited_for: bool = False) -> Any:
        timeout = httpx2.Timeout(None if is_waited_for else ANSWER_S, connect=CONNECT_S)
        try:
            response = self._client.request(method, path, json=value, timeout=timeout)
        except httpx2.TransportError as error:
            raise self._silent(error) from None
        _check(response)
        return response.json()

    def _silent(self, error: Exception) -> AgentSilent:
        what = str(error).rpartition("] ")[2] or type(error).__name__
        hint = "start one with `edgecoder agent` or `edgecoder device`, or give --url"
        return AgentSilent(f"no agent or device answers at {self._url} ({what}); {hint}")


def _check(response: httpx2.Response) -> None:
    if response.status_code < 400:
        return
    try:
        problem = response.json()
    except ValueError:
        problem = {"title": f"{response.status_code} {response.reason_phrase}", "hint": "is it an agent?"}
    raise Refusal(problem if isinstance(problem, dict) else {"title": str(problem)})


def model_path(model: str, rest: str = "") -> str:
    """The path of a model; its name may have a slash and a colon."""
    return f"/model/{quote(model, safe='/:')}{rest}"
