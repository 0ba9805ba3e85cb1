"""A client of the control port: requests, their problems as errors, and events as they come.

Decides how a control port is reached and what counts as its answer: one of `http.contract`'s types. Whatever else
answers is no agent.
"""

from __future__ import annotations

import difflib
import ipaddress
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self, TypeVar
from urllib.parse import quote

import httpx2
import msgspec
import typer

from edgecoder.errors import UNREADABLE, ConfigError, DriverError, EdgeCoderError, Reason
from edgecoder_drivers.commands.token import token_of
from edgecoder_drivers.http import digests
from edgecoder_drivers.http.contract import Accepted, Listed, Problem

URL = "http://127.0.0.1:4302"
CONNECT_S = 5.0
ANSWER_S = 60.0
"""For an answer that waits for nothing; swaps, pulls and tasks are waited for as long as they take."""
_JSON, _EVENTS, _BYTES = "application/json", "text/event-stream", "application/octet-stream"
_PROBLEM = "application/problem+json"
_OTHER_NAME = frozenset({62, 64})
"""OpenSSL's codes of a certificate for another name, or another address."""

Url = Annotated[
    str, typer.Option("--url", envvar="EDGECODER_URL", metavar="URL", help="Where the agent or device listens.")
]
Token = Annotated[
    str | None, typer.Option("--token", envvar="EDGECODER_TOKEN", metavar="TOKEN", help="Its token, if it has one.")
]
Authority = Annotated[
    Path | None,
    typer.Option(
        "--cacert", envvar="EDGECODER_CACERT", metavar="FILE", help="The PEM certificate that vouches for its own."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
K = TypeVar("K")


class AgentSilent(DriverError):
    """No agent answers there."""


class Refusal(EdgeCoderError):
    """The agent has refused: what, why, and the next step."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        detail = f" ({problem.detail})" if problem.detail else ""
        hint = f"; {problem.hint}" if problem.hint else ""
        super().__init__(f"{problem.title}{detail}{hint}")


class Event(NamedTuple):
    """One server-sent event: its name, and its value as JSON."""

    name: str
    content: bytes


class Download(NamedTuple):
    """Bytes that come."""

    size_bytes: int
    """0: the agent does not say."""
    sha256: str
    """What they hash to, as the agent says, if it does."""
    parts: Iterator[bytes]


class Control:
    """An agent that is asked. No proxy is: a token is for nobody else."""

    def __init__(self, url: str, token: str | None, authority: Path | None = None, answer_s: float = ANSWER_S) -> None:
        """`authority` is a file of certificates that are trusted, None trusts the system's. Raises ConfigError."""
        self._url = url
        where = _address(url)
        self.is_here = _is_loopback(where.host)
        """Whether it has the files of this machine."""
        headers = {}
        if token is not None:
            headers["Authorization"] = f"Bearer {token_of(token, '--token')}"
            if where.scheme == "http" and not self.is_here:
                raise ConfigError("--url", None, "the token would go there in the clear", "ask with https://")
        self._patience = httpx2.Timeout(answer_s, connect=min(CONNECT_S, answer_s))
        self._client = httpx2.Client(
            base_url=where,
            headers=headers,
            timeout=self._patience,
            trust_env=False,
            verify=_trusted(authority) if where.scheme == "https" else False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, kind: type[K]) -> K:
        """What is at a path. Raises Refusal, AgentSilent."""
        return self.read(self._ask("GET", path).content, kind)

    def post(self, path: str, value: dict[str, Any], kind: type[K]) -> K:
        """Send a value, and wait for the answer as long as it takes."""
        return self.read(self._ask("POST", path, value, httpx2.Timeout(None, connect=CONNECT_S)).content, kind)

    def begin(self, path: str, value: dict[str, Any], kind: type[K]) -> K | Accepted:
        """Send a value that something long may come of."""
        response = self._ask("POST", path, value)
        if response.status_code == 202:
            return self.read(response.content, Accepted)
        return self.read(response.content, kind)

    def delete(self, path: str, kind: type[K]) -> K:
        """Delete what is there."""
        return self.read(self._ask("DELETE", path).content, kind)

    def events(self, method: str, path: str, value: dict[str, Any] | None = None) -> Iterator[Event]:
        """Events as they come, to the end."""
        timeout = httpx2.Timeout(None, connect=CONNECT_S)
        with self._reached(), self._client.stream(method, path, json=value, timeout=timeout) as response:
            self._check(response, _EVENTS)
            name, rest = "", b""
            for part in response.iter_bytes():
                *lines, rest = (rest + part).split(b"\n")  # and at nothing else: an answer may have U+2028 in it
                for line in lines:
                    if line.startswith(b"event: "):
                        name = line.removeprefix(b"event: ").decode(errors="replace")
                    elif line.startswith(b"data: "):
                        yield Event(name, line.removeprefix(b"data: "))

    @contextmanager
    def download(self, path: str) -> Iterator[Download]:
        """The bytes at a path."""
        with self._reached(), self._client.stream("GET", path) as response:
            self._check(response, _BYTES)
            size_bytes = int(response.headers.get("content-length", 0))
            sha256 = digests.read(response.headers.get("repr-digest", ""))
            yield Download(size_bytes, sha256, response.iter_bytes(1 << 20))

    def read(self, content: bytes, kind: type[K]) -> K:
        """A value from its JSON. Raises AgentSilent where it is none that an agent sends."""
        try:
            return msgspec.json.decode(content, type=kind)
        except UNREADABLE:
            raise self._stranger("it sends other JSON") from None

    def _ask(self, method: str, path: str, value: Any = None, timeout: httpx2.Timeout | None = None) -> httpx2.Response:
        with self._reached():
            response = self._client.request(method, path, json=value, timeout=timeout or self._patience)
        self._check(response, _JSON)
        return response

    def _check(self, response: httpx2.Response, media_type: str) -> None:
        """Raises Refusal where an agent refuses, AgentSilent where it is no agent that answers."""
        given = response.headers.get("content-type", "").partition(";")[0]
        if response.status_code >= 400 and given == _PROBLEM:
            problem = self.read(response.read(), Problem)
            if response.status_code == 401:
                hint = "give --token, or set EDGECODER_TOKEN, to the text of the agent's --token-file"
                problem = msgspec.structs.replace(problem, hint=hint)
            raise Refusal(problem)
        if not response.is_success or given != media_type:
            raise self._stranger(f"{response.status_code} {response.reason_phrase}, {given or 'no content'}")

    def _stranger(self, what: str) -> AgentSilent:
        return AgentSilent(f"what answers at {self._url} is no agent or device ({what}); give --url")

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Raises AgentSilent where nobody can be reached."""
        try:
            yield
        except httpx2.RequestError as error:
            tls = _tls_of(error)
            raise self._silent(error) if tls is None else AgentSilent(f"{self._url}: {_in_words(tls)}") from None

    def _silent(self, error: httpx2.RequestError) -> AgentSilent:
        what = str(error).rpartition("] ")[2] or type(error).__name__
        hint = "start one with `edgecoder agent` or `edgecoder device`, or give --url"
        if self._url.startswith("http:") and isinstance(error, httpx2.RemoteProtocolError | httpx2.ReadError):
            hint = "where it has a certificate, ask with https://"
        return AgentSilent(f"no agent or device answers at {self._url} ({what}); {hint}")


@contextmanager
def asking(
    url: str, token: str | None, authority: Path | None, *, model: str = "", as_json: bool = False
) -> Iterator[Control]:
    """Ask an agent, of a model where one is named. A refusal has the names close to one that is not there, and is
    printed as JSON too where that is asked for."""
    with Control(url, token, authority) as control:
        try:
            yield control
        except Refusal as refusal:
            problem = _with_close_names(control, refusal.problem, model)
            if as_json:
                print_json(problem)
            raise Refusal(problem) from None


def print_json(value: msgspec.Struct | dict[str, Any]) -> None:
    """One line for programs."""
    typer.echo(msgspec.json.encode(value).decode())


def model_path(model: str, rest: str = "") -> str:
    """The path of a model; its name may have a slash and a colon."""
    return f"/model/{quote(model, safe='/:')}{rest}"


def _with_close_names(control: Control, problem: Problem, model: str) -> Problem:
    if problem.code != Reason.UNKNOWN_MODEL.value or not model:
        return problem
    try:
        names = [row.model_id for row in control.get("/model/list", Listed).models]
    except EdgeCoderError:
        return problem
    close = [name for name in names if name.startswith(model)][:3] or difflib.get_close_matches(model, names, 2)
    hint = f"did you mean {' or '.join(close)}?" if close else problem.hint
    return msgspec.structs.replace(problem, hint=hint)


def _address(url: str) -> httpx2.URL:
    """Raises ConfigError where it is none."""
    try:
        where = httpx2.URL(url)
    except httpx2.InvalidURL:
        where = httpx2.URL("")
    if where.scheme not in ("http", "https") or not where.host or (where.port or 0) > 65_535:
        raise ConfigError("--url", None, f"{url!r} is no address", f"give one such as {URL}")
    return where


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _trusted(authority: Path | None) -> ssl.SSLContext:
    """Whose certificates are trusted. Raises ConfigError."""
    try:
        return httpx2.create_ssl_context() if authority is None else ssl.create_default_context(cafile=authority)
    except OSError as error:  # an SSLError is one
        where = "SSL_CERT_FILE" if authority is None else str(authority)
        what = "there is none in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(where, None, f"no certificate: {what}", "give a PEM file") from None


def _tls_of(error: BaseException | None) -> ssl.SSLError | None:
    """The fault of TLS that lies behind an error, if one does."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error


def _in_words(error: ssl.SSLError) -> str:
    """A fault of TLS: what it is, and the next step."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OTHER_NAME:
            return "its certificate is for another name; ask by the name that it has"
        hint = "give it, or the one that it is signed with, as --cacert"
        return f"its certificate is not trusted ({error.verify_message}); {hint}"
    if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return "there is no TLS; ask with http://"
    return f"TLS fails ({error.reason or error}); see the agent's log"
