"""How commands reach a control port: whom they ask, whom they trust, and what they say where it is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgecoder.cli import app
from tests.drivers.other_server import other_server
from tests.drivers.test_model_commands import Running


@contextmanager
def agent(folder: Path, monkeypatch: pytest.MonkeyPatch, **how: object) -> Iterator[int]:
    """An agent, and the port where it listens."""
    running = Running(folder, **how)
    port = running.control.port
    monkeypatch.setenv("EDGECODER_URL", f"http://127.0.0.1:{port}")
    try:
        yield port
    finally:
        running.stop()


def run(*args: str) -> int:
    return app.run(list(args))


def test_no_proxy_of_the_environment_s_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with other_server(b"{}", "application/json") as (proxy, asked), agent(tmp_path, monkeypatch, token="secret"):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy)
        assert run("model", "status", "--token", "secret") == 0
        assert asked == []
    assert "model        none" in capfd.readouterr().out


@pytest.mark.parametrize("line_end", ["", "\n", "\r", "\r\n", " "])
def test_a_token_may_have_a_line_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], line_end: str
) -> None:
    with agent(tmp_path, monkeypatch, token="secret"):
        monkeypatch.setenv("EDGECODER_TOKEN", f"secret{line_end}")
        assert run("model", "status") == 0
        assert "status" in capfd.readouterr().out


@pytest.mark.parametrize("token", ["hidden\rtext", "hidden\nX-Other: 1", "hiddenü", "hidden\0"])
def test_what_is_no_token_is_said_without_it(capfd: pytest.CaptureFixture[str], token: str) -> None:
    assert run("model", "status", "--url", "http://127.0.0.1:9", "--token", token) == 2
    assert capfd.readouterr().err == "--token: this is no token; write one line of ASCII into it\n"


def test_a_token_never_leaves_this_machine_in_the_clear(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("model", "status", "--url", "http://192.0.2.7:4302", "--token", "secret") == 2
    assert capfd.readouterr().err == "--url: the token would go there in the clear; ask with https://\n"


def test_without_the_token_the_option_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with agent(tmp_path, monkeypatch, token="secret"):
        for given in ([], ["--token", "wrong"]):
            assert run("model", "status", *given) == 1
            assert "; give --token, or set EDGECODER_TOKEN, to the text" in capfd.readouterr().err


def test_a_certificate_of_one_s_own_is_trusted_where_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], certificate: Path
) -> None:
    with agent(tmp_path, monkeypatch, token="secret", certificate=certificate) as port:
        url = f"https://127.0.0.1:{port}"
        monkeypatch.setenv("EDGECODER_TOKEN", "secret")
        assert run("model", "swap", "small", "--url", url, "--cacert", str(certificate)) == 0
        assert run("task", "def", "--url", url, "--cacert", str(certificate)) == 0
        assert capfd.readouterr().out == "small is active (1.5B)\ndef add\n"

        assert run("model", "status", "--url", url) == 3
        said = capfd.readouterr().err
        assert said.startswith(f"{url}: its certificate is not trusted (self")
        assert said.endswith("; give it, or the one that it is signed with, as --cacert\n")

        monkeypatch.setenv("EDGECODER_CACERT", str(certificate))
        assert run("model", "status", "--url", url) == 0
        capfd.readouterr()
        assert run("model", "status", "--url", f"https://127.1:{port}") == 3
        assert "its certificate is for another name; ask by the name that it has" in capfd.readouterr().err
        assert run("model", "status", "--url", f"http://127.0.0.1:{port}") == 3
        assert "; where it has a certificate, ask with https://\n" in capfd.readouterr().err


def test_tls_where_there_is_none_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with agent(tmp_path, monkeypatch) as port:
        assert run("model", "status", "--url", f"https://127.0.0.1:{port}") == 3
        assert capfd.readouterr().err == f"https://127.0.0.1:{port}: there is no TLS; ask with http://\n"


def test_a_file_that_vouches_for_nobody_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    empty, missing = tmp_path / "empty.pem", tmp_path / "missing.pem"
    empty.write_text("", encoding="utf-8")
    for file in (empty, missing):
        assert run("model", "status", "--url", "https://127.0.0.1:9", "--cacert", str(file)) == 2
        assert capfd.readouterr().err.startswith(f"{file}: no certificate: ")
    monkeypatch.setenv("SSL_CERT_FILE", str(missing))
    assert run("model", "status", "--url", "https://127.0.0.1:9") == 2
    assert capfd.readouterr().err.startswith("SSL_CERT_FILE: no certificate: ")


OTHERS = {
    "a page": (b"<html>", "text/html", 200),
    "a page that is missing": (b"<html>", "text/html", 404),
    "a way elsewhere": (b"", "text/html", 302),
    "other JSON": (b'{"version": 1}', "application/json", 200),
    "a list": (b"[1]", "application/json", 200),
    "no JSON": (b"{", "application/json", 200),
    "no text": (b'{"model": "\xff"}', "application/json", 200),
    "a problem that is none": (b"[]", "application/problem+json", 400),
    "nothing": (b"", "", 204),
}
ASKED = {
    "status": ["model", "status"],
    "list": ["model", "list", "--json"],
    "swap": ["model", "swap", "small"],
    "export": ["model", "export", "small", "out.gguf"],
    "task": ["task", "hello"],
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("other", OTHERS)
def test_another_server_is_no_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], other: str, asked: str
) -> None:
    monkeypatch.chdir(tmp_path)
    content, media_type, status = OTHERS[other]
    with other_server(content, media_type, status, Location="/elsewhere") as (url, _):
        assert run(*ASKED[asked], "--url", url) == 3
    said = capfd.readouterr()
    assert said.err.startswith(f"what answers at {url} is no agent or device (")
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("event", [b"event: done\ndata: <html>\n\n", b"event: done\ndata: {}\n\n"])
def test_events_of_another_server_are_no_agent_s(capfd: pytest.CaptureFixture[str], event: bytes) -> None:
    with other_server(event, "text/event-stream") as (url, _):
        assert run("task", "hello", "--url", url) == 3
    assert "is no agent or device (it sends other JSON)" in capfd.readouterr().err


def test_events_that_end_too_soon_are_said(capfd: pytest.CaptureFixture[str]) -> None:
    with other_server(b'event: part\ndata: {"text":"def","tokens":1}\n\n', "text/event-stream") as (url, _):
        assert run("task", "hello", "--url", url) == 3
    said = capfd.readouterr()
    assert (said.out, said.err) == ("def", "the agent went away meanwhile; ask again\n")


def test_an_answer_may_have_any_sort_of_line_end_in_it(capfd: pytest.CaptureFixture[str]) -> None:
    text = "a\u2028b\x85c\x0bd\re"
    events = [
        ("part", {"text": text, "tokens": 1}),
        ("done", {"text": text, "tokens": 1, "model": "m", "servedBy": None}),
    ]
    sent = "".join(f"event: {name}\ndata: {json.dumps(value, ensure_ascii=False)}\n\n" for name, value in events)
    with other_server(sent.encode(), "text/event-stream") as other:
        assert run("task", "hello", "--url", other.url) == 0
    assert capfd.readouterr().out == f"{text}\n"


@pytest.mark.parametrize(
    "url", ["ftp://x", "127.0.0.1:4302", "http://", "http://127.0.0.1:abc", "http://127.0.0.1:99999", "http://[::1", ""]
)
def test_what_is_no_address_is_said(capfd: pytest.CaptureFixture[str], url: str) -> None:
    assert run("model", "status", "--url", url) == 2
    assert capfd.readouterr().err == f"--url: {url!r} is no address; give one such as http://127.0.0.1:4302\n"


def test_a_refusal_is_json_too_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with agent(tmp_path, monkeypatch):
        assert run("model", "swap", "tiny", "--no-pull", "--json") == 1
        said = capfd.readouterr()
        assert json.loads(said.out)["code"] == "not_installed"
        assert said.err.startswith("the model is not on this node (swap tiny); pull it first")


@pytest.mark.parametrize(
    ("args", "close"),
    [
        (["model", "swap", "smal"], "small"),
        (["model", "pull", "tini"], "tiny"),
        (["model", "remove", "larg"], "large"),
        (["task", "def", "--model", "smalll"], "small"),
    ],
)
def test_a_name_that_is_not_there_suggests_the_close_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], args: list[str], close: str
) -> None:
    with agent(tmp_path, monkeypatch):
        assert run(*args) == 1
        assert capfd.readouterr().err.endswith(f"; did you mean {close}?\n")


@pytest.mark.parametrize("args", [["model", "swap"], ["model", "export"], ["task", "hello", "--model"]])
def test_what_can_be_no_name_of_a_model_is_said_at_once(capfd: pytest.CaptureFixture[str], args: list[str]) -> None:
    more = ["out.gguf"] if "export" in args else []
    assert run(*args, "a b", *more) == 2
    hint = "a name is such as qwen2.5-coder:7b; `edgecoder model list` has them"
    assert capfd.readouterr().err == f"MODEL: 'a b' is no name of a model; {hint}\n"
    assert run(*args, "", *more) == 2
    assert capfd.readouterr().err == f"MODEL: there is no name; {hint}\n"


@pytest.mark.parametrize("size", ["nan", "inf", "-1"])
def test_a_size_that_is_none_is_said(capfd: pytest.CaptureFixture[str], size: str) -> None:
    assert run("task", "hello", "--min-param-size", size) == 2
    assert "Invalid value for '--min-param-size'" in capfd.readouterr().err
