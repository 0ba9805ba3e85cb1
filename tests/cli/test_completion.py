"""What a shell offers when its user presses Tab, in bash also where a word has a colon or an equals sign."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from edgecoder.cli import app
from edgecoder.config import PRESETS

EDGECODER = Path(sys.executable).parent / "edgecoder"


class Bash:
    """Asks as the script does that bash is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd

    def offers(self, line: str) -> list[str]:
        """What is offered behind a line."""
        words = parted(f"edgecoder {line}")
        self._monkeypatch.setenv("_EDGECODER_COMPLETE", "complete_bash")
        self._monkeypatch.setenv("COMP_WORDS", "\n".join(words))
        self._monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        assert app.run([]) == 0
        said = self._capfd.readouterr()
        assert said.err == ""
        return said.out.split()


@pytest.fixture
def bash(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Bash:
    monkeypatch.setenv("EDGECODER_URL", "http://127.0.0.1:9")
    return Bash(monkeypatch, capfd)


def parted(line: str) -> list[str]:
    """The words that bash takes a line for; the last one is empty behind a blank."""
    return re.findall(r"[:=]+|[^\s:=]+", line) + ([""] if line.endswith(" ") else [])


def test_commands_and_options_are_offered(bash: Bash) -> None:
    assert bash.offers("mod") == ["model"]
    assert bash.offers("model st") == ["status"]
    assert bash.offers("model status --js") == ["--json"]


@pytest.mark.parametrize("line", ["model swap", "model pull", "model remove", "model export", "task hello --model"])
def test_models_are_those_of_the_packaged_catalog_where_nobody_answers(bash: Bash, line: str) -> None:
    offered = bash.offers(f"{line} qwen2.5-coder-")
    assert "qwen2.5-coder-7b" in offered
    assert len(offered) == len(set(offered))


@pytest.mark.parametrize("typed", ["qwen2.5-coder:", "qwen2.5-coder:7"])
@pytest.mark.parametrize(
    "line", ["model swap ", "task hello --model ", "task hello --model=", "model pull --url http://127.0.0.1:9 "]
)
def test_bash_keeps_what_stands_before_a_colon(bash: Bash, line: str, typed: str) -> None:
    assert bash.offers(line + typed) == ["7b"]


def test_a_second_argument_is_no_model(bash: Bash) -> None:
    assert bash.offers("model export qwen2.5-coder:7b qwen") == []


def test_what_there_are_few_of_is_offered(bash: Bash) -> None:
    assert bash.offers("config show --preset ") == list(PRESETS)
    assert bash.offers("agent --log ") == ["debug", "info", "warning", "error"]
    assert bash.offers("device --log=w") == ["warning"]
    assert bash.offers("run blackou") == ["blackout"]


def test_what_is_missing_is_not_said_into_the_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    planted = EntryPoint("planted", "nowhere_to_be_found:command [sim]", app.GROUP)
    monkeypatch.setattr(app, "entry_points", lambda group: [planted])
    for name, value in {
        "_EDGECODER_COMPLETE": "complete_bash",
        "COMP_WORDS": "edgecoder\nplanted\n",
        "COMP_CWORD": "2",
    }.items():
        monkeypatch.setenv(name, value)
    assert app.run([]) == 3
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_the_script_that_bash_is_given_puts_it_in() -> None:
    """With its own COMPREPLY."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("EDGECODER_")}
    environ |= {"PATH": f"{EDGECODER.parent}{os.pathsep}{environ['PATH']}", "EDGECODER_URL": "http://127.0.0.1:9"}
    script = """
        source <(_EDGECODER_COMPLETE=source_bash edgecoder)
        COMP_WORDS=(edgecoder model swap qwen2.5-coder : 7) COMP_CWORD=5
        _edgecoder_completion edgecoder
        printf '<%s>' "${COMPREPLY[@]}"
    """
    ran = subprocess.run(
        ["bash", "--norc", "-c", script], check=True, capture_output=True, text=True, env=environ, timeout=60
    )
    assert (ran.stdout, ran.stderr) == ("<7b>", "")
