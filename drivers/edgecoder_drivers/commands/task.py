"""Have the mesh answer a prompt, through a running agent.

The answer is printed as it comes; who served it stands behind it on the error stream.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from edgecoder.errors import ConfigError
from edgecoder_drivers.commands.control import URL, Control, Json, Refusal, Token, Url

STDIN = "-"


def command(
    prompt: Annotated[str, typer.Argument(help="What to answer; - reads it from the standard input.")],
    model: Annotated[str | None, typer.Option(help="Ask for this model, by id or alias.")] = None,
    min_param_size: Annotated[float, typer.Option(help="Ask for at least so many billions of parameters.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Write at most so many tokens.")] = 256,
    deadline_ms: Annotated[int | None, typer.Option(min=1, help="Give up after so long.")] = None,
    url: Url = URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Print the answer of the mesh to a prompt."""
    text = sys.stdin.read() if prompt == STDIN else prompt
    if not text:
        raise ConfigError("task", None, "the prompt is empty", "write one, or give - and pipe it in")
    asked = {"prompt": text, "maxTokens": max_tokens, "minParamSize": min_param_size, "stream": not as_json}
    asked |= {} if model is None else {"model": model}
    asked |= {} if deadline_ms is None else {"deadlineMs": deadline_ms}
    with Control(url, token) as control:
        if as_json:
            typer.echo(json.dumps(control.post("/task", asked, is_waited_for=True)))
        else:
            _print(control, asked)


def _print(control: Control, asked: dict[str, Any]) -> None:
    """The answer, part by part."""
    has_begun = False
    for event in control.events("POST", "/task", asked):
        if event.name == "part":
            typer.echo(shown(event.value["text"]), nl=False)
            has_begun = True
            continue
        if has_begun:
            typer.echo()
        if event.name != "done":
            raise Refusal(event.value)
        served_by = (event.value.get("servedBy") or "nobody")[:8]
        typer.echo(f"{event.value['tokens']} tokens of {event.value['model']}, by node {served_by}", err=True)
        return
    raise Refusal({"title": "the agent went away meanwhile", "hint": "ask again"})


def shown(text: str) -> str:
    """Text of others, without what would steer a terminal; where it goes to a file, as it is."""
    if not sys.stdout.isatty():
        return text
    return "".join(letter if letter.isprintable() or letter in "\n\t" else repr(letter)[1:-1] for letter in text)
