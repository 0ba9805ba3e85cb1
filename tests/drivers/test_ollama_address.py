"""Where an Ollama is, as Ollama itself reads it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edgecoder_drivers.ollama.address import address
from edgecoder_drivers.ollama.client import Client

READ = {
    "": "http://127.0.0.1:11434",
    "127.0.0.1": "http://127.0.0.1:11434",
    ":8080": "http://127.0.0.1:8080",
    "0.0.0.0": "http://127.0.0.1:11434",
    "0.0.0.0:1234": "http://127.0.0.1:1234",
    "::": "http://[::1]:11434",
    "::1": "http://[::1]:11434",
    "[::1]": "http://[::1]:11434",
    "[::]:11434": "http://[::1]:11434",
    ' "127.0.0.1:11434" ': "http://127.0.0.1:11434",
    "127.0.0.1:99999": "http://127.0.0.1:11434",
    "example.com:": "http://example.com:11434",
    "example.com:56789/path/": "http://example.com:56789/path",
    "http://example.com": "http://example.com:80",
    "https://example.com": "https://example.com:443",
    "https://example.com:56789": "https://example.com:56789",
    "ollama.com": "https://ollama.com:443",
}


@pytest.mark.parametrize(("said", "meant"), READ.items())
def test_an_address_is_read_as_ollama_reads_it(said: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert address(said) == meant
    monkeypatch.setenv("OLLAMA_HOST", said)
    assert address() == meant
    Client()


@pytest.mark.parametrize("said", ["a b", "ftp://x", "[zz:1", "a:b:c", "user@host", "::1::2"])
def test_what_is_no_address_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match="address"):
        address(said)


@pytest.mark.parametrize("said", ["::1", "127.0.0.1:99999"])
def test_the_official_client_is_not_asked_to_read_it(said: str) -> None:
    """It makes a client of OLLAMA_HOST when it is imported, which raised."""
    code = "import os; import edgecoder_drivers.ollama; print(os.environ['OLLAMA_HOST'])"
    environ = {**os.environ, "OLLAMA_HOST": said, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (said, "")
