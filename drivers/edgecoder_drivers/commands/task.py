"""Have the mesh answer a prompt, through a running agent.

The answer is printed as it comes; who served it stands behind it on the error stream.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from edgecoder.cli.terminal import printable
from edgecoder.errors import ConfigError
from edgecoder_drivers.commands.control import (
    URL,
    AgentSilent,
    Authority,
    Control,
    Json,
    Refusal,
    Token,
    Url,
    asking,
    print_json,
)
from edgecoder_drivers.commands.names import WantedModel
from edgecoder_drivers.http.contract import Answered, Problem, TaskPart

STDIN = "-"


def command(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to answer; - reads the standard input.")],
    model: WantedModel = None,
    min_param_size: Annotated[
        float,
        typer.Option(min=0, max=10_000, metavar="BILLIONS", help="Ask for at least so many parameters."),
    ] = 0.0,
    max_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Write at most so many tokens.")] = 256,
    deadline_ms: Annotated[int | None, typer.Option(min=1, metavar="MS", help="Give up after so long.")] = None,
    url: Url = URL,
    token: Token = None,
    cacert: Authority = None,
    as_json: Json = False,
) -> None:
    """Print the answer of the mesh to a prompt."""
    text = sys.stdin.read() if prompt == STDIN else prompt
    if not text:
        raise ConfigError("task", None, "the prompt is empty", "write one, or give - and pipe it in")
    asked = {"prompt": text, "maxTokens": max_tokens, "minParamSize": min_param_size, "stream": not as_json}
    asked |= {} if model is None else {"model": model}
    asked |= {} if deadline_ms is None else {"deadlineMs": deadline_ms}
    with asking(url, token, cacert, model=model or "", as_json=as_json) as control:
        if as_json:
            print_json(control.post("/task", asked, Answered))
        else:
            _print(control, asked)


def _print(control: Control, asked: dict[str, Any]) -> None:
    """The answer, part by part."""
    has_begun = False
    for event in control.events("POST", "/task", asked):
        if event.name == "part":
            typer.echo(shown(control.read(event.content, TaskPart).text), nl=False)
            has_begun = True
            continue
        if has_begun:
            typer.echo()
        if event.name != "done":
            raise Refusal(control.read(event.content, Problem))
        answered = control.read(event.content, Answered)
        served_by = (answered.served_by or "nobody")[:8]
        typer.echo(f"{answered.tokens} tokens of {answered.model}, by node {served_by}", err=True)
        return
    raise AgentSilent("the agent went away meanwhile; ask again")


def shown(text: str) -> str:
    """What others wrote, as a terminal may have it; where it goes to a file, as it is."""
    return printable(text) if sys.stdout.isatty() else text
