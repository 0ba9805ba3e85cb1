"""Certificates under links: made once, kept for their user alone, and what a handshake is bound to."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from edgecoder.errors import ConfigError
from edgecoder_drivers.links.tls import binding_of, client_context, own_certificate, server_context
from tests.drivers.mesh_rig import address, coordinator, identity, member, run, until

A = identity(1)


def test_a_certificate_is_made_once_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    path = own_certificate(tmp_path, ("hub.example", "192.0.2.1"))
    made = path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
    assert own_certificate(tmp_path, ("another.example",)).read_bytes() == made
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_handshake_is_bound_to_one_certificate(tmp_path: Path) -> None:
    bindings = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        pem = own_certificate(tmp_path / name, ("hub.example",))
        _, binding = server_context(pem, pem)
        der = ssl.PEM_cert_to_DER_cert(pem.read_text().partition("-----END PRIVATE KEY-----\n")[2])
        assert binding == binding_of(der)
        bindings.add(binding)
    assert len(bindings) == 2
    assert binding_of(None) == b""


@pytest.mark.parametrize("content", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cert.pem"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"cert\.pem: no certificate"):
        server_context(path, path)


def test_who_dials_speaks_no_old_tls() -> None:
    assert client_context().minimum_version is ssl.TLSVersion.TLSv1_3


def test_a_certificate_of_the_operator_serves_too(tmp_path: Path) -> None:
    """On loopback as well: then a coordinator speaks TLS there, and members find out."""
    pem = own_certificate(tmp_path, ("localhost",))

    async def test() -> None:
        async with coordinator(tmp_path / "hub", A.node_id, certificate=pem, key=pem) as hub:
            assert not hub.is_plain
            assert not (tmp_path / "hub" / "tls.pem").exists()
            async with member(A, [address(hub)]):
                await until(lambda: hub.links == (1, 0))

    run(test())
