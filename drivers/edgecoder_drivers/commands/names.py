"""What a user calls a model: judged before anybody is asked, and completed by the shell."""

from __future__ import annotations

from typing import Annotated

import typer

from edgecoder.errors import ConfigError
from edgecoder.models.catalog import is_model_name, normalise

HELP = "Id or alias, such as qwen2.5-coder:7b."


def model_name(text: str | None) -> str | None:
    """The name that was given, if one was. Raises ConfigError where no model can have it."""
    if text is None or is_model_name(normalise(text)):
        return text
    hint = "a name is such as qwen2.5-coder:7b; `edgecoder model list` has them"
    raise ConfigError("MODEL", None, f"{text!r} is no name of a model" if text else "there is no name", hint)


Model = Annotated[str, typer.Argument(metavar="MODEL", help=HELP, callback=model_name)]
WantedModel = Annotated[
    str | None, typer.Option("--model", metavar="MODEL", help=f"Ask for this model. {HELP}", callback=model_name)
]
