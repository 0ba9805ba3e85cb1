"""The command line as a user meets it: real processes, exit codes, one line for a mistake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from edgecoder import __version__
from edgecoder.cli import app
from edgecoder.errors import ConfigError
from edgecoder.health import target

COMMANDS = sorted(entry_points(group=app.GROUP), key=lambda entry_point: entry_point.name)
EDGECODER = Path(sys.executable).parent / "edgecoder"


def edgecoder(*args: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("EDGECODER_")} | variables
    return subprocess.run(
        [str(EDGECODER), *args], check=False, capture_output=True, text=True, cwd=cwd, env=environ, timeout=120
    )


def python(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter; it may plant a fault before it starts the command line."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *args], check=False, capture_output=True, text=True, timeout=120
    )


def plant(tmp_path: Path, body: str, monkeypatch: pytest.MonkeyPatch, extra: str = "") -> None:
    """Make `planted` the only command: a module with this body, found through an entry point."""
    name = f"planted_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        f'"""Do a planted thing.\n\nMore."""\n{textwrap.dedent(body)}', encoding="utf-8"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("planted", f"{name}:command{f' [{extra}]' if extra else ''}", app.GROUP)
    monkeypatch.setattr(app, "entry_points", lambda group: [point])


def test_help_lists_every_command_with_its_line() -> None:
    ran = edgecoder("--help")
    assert ran.returncode == 0
    rows = [line.split(maxsplit=1) for line in ran.stdout.partition("Commands:\n")[2].splitlines()]
    assert rows == [[point.name, app.help_line(point)] for point in COMMANDS]


@pytest.mark.parametrize("entry_point", COMMANDS, ids=lambda entry_point: entry_point.name)
def test_every_command_has_a_line_and_loads(entry_point: EntryPoint) -> None:
    line = app.help_line(entry_point)
    assert line.endswith(".")
    assert len(line) <= 70
    ran = edgecoder(entry_point.name, "--help")
    assert ran.returncode == 0, ran.stderr
    assert f"Usage: edgecoder {entry_point.name}" in ran.stdout


GROUPS = {
    "config": ["show"],
    "coordinator": ["invite", "find"],
    "model": ["list", "status", "swap", "pull", "remove", "import", "export"],
}


@pytest.mark.parametrize(
    "words",
    [[point.name, *more] for point in COMMANDS for more in [[], *([name] for name in GROUPS.get(point.name, []))]],
    ids=" ".join,
)
def test_help_says_what_a_value_is_in_words_not_in_types(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run([*words, "--help"]) == 0
    usage, _, rest = capsys.readouterr().out.partition("\n\n")
    assert not re.search(r"\{[a-z]", usage)
    options = rest.partition("Options:\n")[2]
    assert re.findall(r"<[a-z]+(?:\[[a-z]+\]| range)?>", options) == [], (
        "a value has a name, or stands with the others there are"
    )


def test_help_imports_no_command() -> None:
    ran = python(
        """
        import sys
        from edgecoder.cli import app
        assert app.run(["--help"]) == 0
        modules = {entry_point.module for entry_point in app.entry_points(group=app.GROUP)}
        assert "edgecoder.cli.doctor" in modules
        loaded = {name for name in sys.modules if name in modules or name in {"simpy", "numpy", "pandas"}}
        assert not loaded, loaded
        """
    )
    assert ran.returncode == 0, ran.stderr


def test_version() -> None:
    ran = edgecoder("--version")
    assert (ran.returncode, ran.stdout) == (0, f"edgecoder {__version__}\n")


def test_python_m_edgecoder_is_the_same_command() -> None:
    ran = subprocess.run([sys.executable, "-m", "edgecoder", "--version"], check=True, capture_output=True, text=True)
    assert ran.stdout == f"edgecoder {__version__}\n"


def test_an_unknown_command_suggests_the_close_one() -> None:
    ran = edgecoder("docter")
    assert ran.returncode == 2
    assert "No such command 'docter'. Did you mean 'doctor'?" in ran.stderr


def test_no_command_shows_the_help() -> None:
    ran = edgecoder()
    assert ran.returncode == 2
    assert "Commands:" in ran.stdout + ran.stderr


def test_a_missing_extra_is_one_line_with_the_command_that_mends_it() -> None:
    code = "import sys; sys.modules['simpy'] = None; from edgecoder.cli.app import main; main()"
    ran = python(code, "run", "office")
    assert ran.returncode == 3
    assert ran.stderr == f"edgecoder run needs the extra 'sim': pip install {target('sim')}\n"
    assert ran.stdout == ""


@pytest.mark.parametrize(
    ("body", "extra", "code", "stderr"),
    [
        (
            "import nowhere_to_be_found",
            "sim",
            3,
            f"edgecoder planted needs the extra 'sim': pip install {target('sim')}\n",
        ),
        (
            "def command() -> None:\n    import nowhere.to.be.found",
            "sim,tune",
            3,
            f"edgecoder planted needs the extra 'sim,tune': pip install {target('sim,tune')}\n",
        ),
        ("import nowhere_to_be_found", "", 3, "edgecoder planted needs the package 'nowhere_to_be_found': pip install"),
        (
            "from edgecoder.errors import UnknownModel as E\ndef command() -> None:\n    raise E('no\\nx\\x1b[2J')",
            "",
            1,
            "no x\\x1b[2J\n",
        ),
        (
            "import errno\ndef command() -> None:\n    raise OSError(errno.ENOSPC, 'No space', '/d')",
            "",
            3,
            "/d: No space; free some space\n",
        ),
        ("import typer\ndef command() -> None:\n    raise typer.Exit(1)", "", 1, ""),
        ("def command() -> None:\n    raise KeyboardInterrupt", "", 130, ""),
        ("raise KeyboardInterrupt", "", 130, ""),
        ("def command() -> None:\n    pass", "", 0, ""),
    ],
)
def test_how_a_command_ends(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    body: str,
    extra: str,
    code: int,
    stderr: str,
) -> None:
    plant(tmp_path, body, monkeypatch, extra)
    assert app.run(["planted"]) == code
    said = capsys.readouterr()
    assert said.err.startswith(stderr)
    assert said.err.count("\n") == (1 if stderr else 0)
    assert said.out == ""


@pytest.mark.parametrize(
    "body",
    [
        "import edgecoder_sim.nowhere_to_be_found",
        "def command() -> None:\n    raise RuntimeError('a bug')",
        "import errno\ndef command() -> None:\n    raise OSError(errno.EINVAL, 'a bug')",
    ],
)
def test_a_bug_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    plant(tmp_path, body, monkeypatch)
    with pytest.raises((RuntimeError, ImportError, OSError)):
        app.run(["planted"])


def test_a_planted_command_has_its_line_even_when_it_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(tmp_path, "import nowhere_to_be_found", monkeypatch)
    assert app.run(["--help"]) == 0
    assert "planted  Do a planted thing." in capsys.readouterr().out


def test_a_module_that_is_not_there_has_no_line() -> None:
    assert app.help_line(EntryPoint("x", "nowhere.to.be.found:command", app.GROUP)) == ""


def test_a_reader_that_goes_away_is_no_error() -> None:
    with subprocess.Popen(
        [str(EDGECODER), "config", "show"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == ""
        assert running.wait() == 1


def test_ctrl_c_ends_with_130(tmp_path: Path) -> None:
    code = """
        import sys, time
        from importlib.metadata import EntryPoint
        from edgecoder.cli import app
        sys.path.insert(0, sys.argv.pop(1))
        app.entry_points = lambda group: [EntryPoint("wait", "waiting:command", group)]
        app.main()
    """
    source = "import time\ndef command() -> None:\n    print('here', flush=True)\n    time.sleep(60)\n"
    (tmp_path / "waiting.py").write_text(source, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path), "wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "here\n"
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate()
        assert running.returncode == 130
        assert "Traceback" not in stderr


def test_config_show_prints_value_and_origin(tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text("node:\n  slots: 3\n", encoding="utf-8")
    args = ["config", "show", "--preset", "laptop", "--file", "node.yaml", "--set", "node.peers_max=9"]
    ran = edgecoder(*args, cwd=tmp_path, EDGECODER_NODE_LINKS_MAX="7")
    assert ran.returncode == 0, ran.stderr
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in ran.stdout.splitlines()}
    assert rows["node.device_type"] == ["laptop", "preset laptop"]
    assert rows["node.slots"] == ["3", "node.yaml:2"]
    assert rows["node.links_max"] == ["7", "EDGECODER_NODE_LINKS_MAX"]
    assert rows["node.peers_max"] == ["9", "--set node.peers_max=9"]
    assert rows["cluster.network_id"] == ["edgecoder", "default"]
    assert rows["node.has_radio"] == ["false", "preset laptop"], "as YAML says it"

    shown = json.loads(edgecoder(*args, "--json", cwd=tmp_path).stdout)
    assert shown["preset"] == "laptop"
    assert shown["fields"]["node.slots"] == {"value": 3, "origin": "node.yaml:2"}


def test_config_show_reads_the_file_that_the_environment_names(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("preset: server\nnode:\n  slots: zero\n", encoding="utf-8")
    ran = edgecoder("config", "show", cwd=tmp_path, EDGECODER_CONFIG="mine.yaml")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == 'mine.yaml:3: node.slots is "zero"; it is a whole number, from 1 to 256\n'


def test_a_configuration_error_is_one_located_line() -> None:
    error = ConfigError("x.yaml", 3, "phones.count is -3", "a count is 0 or more")
    assert str(error) == "x.yaml:3: phones.count is -3; a count is 0 or more"
    assert error.exit_code == 2
