"""The control port in TLS, the names under which it may be asked, and what is wrong with files and addresses."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from edgecoder.errors import ConfigError
from edgecoder_drivers.http.connection import Limits
from edgecoder_drivers.http.server import Binding, ControlServer
from tests.drivers.control import Control, controlled

ASKED = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def ask(control: Control, certificate: Path) -> bytes:
    """An answer over TLS, from whom the certificate is for."""
    trusted = ssl.create_default_context(cafile=str(certificate))
    reader, writer = await asyncio.open_connection("localhost", control.port, ssl=trusted)
    writer.write(ASKED)
    answer = await reader.read()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return answer


def test_it_is_asked_in_tls(tmp_path: Path, certificate: Path) -> None:
    async def test() -> None:
        async with asyncio.timeout(30), controlled(tmp_path, certificate=certificate) as control:
            assert (await ask(control, certificate)).startswith(b"HTTP/1.1 200")

    asyncio.run(test())


def test_handshakes_that_do_not_come_to_an_end_keep_nobody_out(tmp_path: Path, certificate: Path) -> None:
    async def test() -> None:
        limits = Limits(handshakes_max=4)
        async with (
            asyncio.timeout(30),
            controlled(tmp_path, certificate=certificate, limits=limits) as control,
            contextlib.AsyncExitStack() as stack,
        ):
            silent = []
            for _ in range(12):
                reader, writer = await asyncio.open_connection("127.0.0.1", control.port)
                stack.callback(writer.close)
                silent.append(reader)
            assert (await ask(control, certificate)).startswith(b"HTTP/1.1 200")
            for reader in silent[:8]:
                assert await reader.read() == b""

    asyncio.run(test())


def key_file(folder: Path, passphrase: bytes | None) -> Path:
    """A key that is of no certificate."""
    path = folder / "key.pem"
    protection = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))
    return path


def test_the_file_that_will_not_do_is_named(tmp_path: Path, certificate: Path) -> None:
    def said(certificate: Path, key: Path) -> str:
        with pytest.raises(ConfigError) as raised:
            Binding(certificate=certificate, key=key).validate()
        return str(raised.value)

    nothing, text = tmp_path / "nothing.pem", tmp_path / "text.pem"
    text.write_text("no PEM", encoding="utf-8")
    assert said(nothing, certificate).startswith(f"{nothing}: it cannot be read: No such file")
    assert said(certificate, nothing).startswith(f"{nothing}: it cannot be read: No such file")
    assert said(text, certificate).startswith(f"{text}: no certificate is in it")
    assert said(certificate, text).startswith(f"{text}: no key is in it")
    other = key_file(tmp_path, None)
    assert said(certificate, other).startswith(f"{other}: this is not the key of {certificate}")
    protected = key_file(tmp_path, b"secret")
    assert said(certificate, protected).startswith(f"{protected}: the key has a pass phrase")


def test_the_names_of_the_certificate_are_those_it_is_asked_by(certificate: Path) -> None:
    names = Binding(certificate=certificate, key=certificate, names=("Pi.local", "fd00::1")).hosts
    assert names == {"localhost", "127.0.0.1", "[::1]", "pi.local", "[fd00::1]"}


@pytest.mark.parametrize(
    ("binding", "url"),
    [
        (Binding(), "http://127.0.0.1:7"),
        (Binding(host="::1"), "http://[::1]:7"),
        (Binding(host="0.0.0.0", names=("pi.local",)), "http://pi.local:7"),
        (Binding(host="::"), "http://localhost:7"),
    ],
)
def test_there_is_one_way_to_write_where_it_is(binding: Binding, url: str) -> None:
    assert binding.url(7) == url


def test_in_tls_it_is_written_so(certificate: Path) -> None:
    binding = Binding(host="0.0.0.0", certificate=certificate, key=certificate)
    assert binding.url(7) == "https://localhost:7"


def test_all_addresses_are_no_name(certificate: Path) -> None:
    binding = Binding(host="0.0.0.0", token="secret", certificate=certificate, key=certificate)
    with pytest.raises(ConfigError, match="no name under which it could be asked; say it with --name"):
        binding.validate()
    Binding("0.0.0.0", 0, "secret", certificate, certificate, ("pi.local",)).validate()


def test_an_address_of_another_machine_is_said_to_be_one(certificate: Path) -> None:
    binding = Binding("192.0.2.1", 0, "secret", certificate, certificate)
    with pytest.raises(ConfigError, match=r"http.host: 192.0.2.1:0: .*; this machine has no such address"):
        ControlServer(None, binding)  # type: ignore[arg-type]


def test_a_port_of_the_system_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(bound: socket.socket, address: object) -> None:  # noqa: ARG001
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuses)
    with pytest.raises(ConfigError, match=r"http.port: 127.0.0.1:80: .*; ports below 1024 are the system's"):
        ControlServer(None, Binding(port=80))  # type: ignore[arg-type]
