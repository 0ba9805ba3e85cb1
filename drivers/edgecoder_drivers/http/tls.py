"""The certificate of the control port and its key: read, judged, and asked for the names that are in it."""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography import x509

from edgecoder.errors import ConfigError


def context_of(certificate: Path, key: Path) -> ssl.SSLContext:
    """What a server needs. Raises ConfigError, which names the file that will not do."""
    _first(certificate)
    _read(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def passphrase() -> str:
        hint = "write it without: openssl pkey -in KEY -out PLAIN"
        raise ConfigError(str(key), None, "the key has a pass phrase, and nobody is there to give it", hint)

    try:
        context.load_cert_chain(certificate, key, passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(str(key), None, f"this is not the key of {certificate}", "give its key") from None
        raise ConfigError(str(key), None, "no key is in it", "give a PEM file with the certificate's key") from None
    return context


def names_of(certificate: Path) -> tuple[str, ...]:
    """The host names and addresses that a certificate is for; not those with a star. Raises ConfigError."""
    try:
        found = _first(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    names = [name for name in found.get_values_for_type(x509.DNSName) if "*" not in name]
    return (*names, *(str(address) for address in found.get_values_for_type(x509.IPAddress)))


def _first(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(_read(path))[0]
    except ValueError:
        raise ConfigError(str(path), None, "no certificate is in it", "give a PEM file") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(str(path), None, f"it cannot be read: {error.strerror}", "give a PEM file") from None
