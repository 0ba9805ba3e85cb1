"""What a user calls a model: judged before anybody is asked, and completed by the shell."""

from __future__ import annotations

from typing import Annotated

import typer

from edgecoder.errors import ConfigError
from edgecoder.models.catalog import is_model_name, normalise
from edgecoder_drivers.catalogs import load_catalog
from edgecoder_drivers.commands.control import URL, Control
from edgecoder_drivers.http.contract import Listed

HELP = "Id or alias, such as qwen2.5-coder:7b."
OFFER_S = 0.5
"""Who presses Tab is not kept waiting: after so long the packaged catalog has to do."""


def model_name(text: str | None) -> str | None:
    """The name that was given, if one was. Raises ConfigError where no model can have it."""
    if text is None or is_model_name(normalise(text)):
        return text
    hint = "a name is such as qwen2.5-coder:7b; `edgecoder model list` has them"
    raise ConfigError("MODEL", None, f"{text!r} is no name of a model" if text else "there is no name", hint)


def names_for(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids that begin so: those that the agent lists, else those of the packaged catalog. Never fails, as what it
    would say would land in the line that is being written."""
    try:
        given = ctx.params
        with Control(given.get("url") or URL, given.get("token"), given.get("cacert"), OFFER_S) as control:
            names = [row.model_id for row in control.get("/model/list", Listed).models]
    except Exception:  # noqa: BLE001
        names = [entry.model_id for entry in load_catalog(None, None).entries]
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


Model = Annotated[str, typer.Argument(metavar="MODEL", help=HELP, callback=model_name, autocompletion=names_for)]
WantedModel = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="MODEL", help=f"Ask for this model. {HELP}", callback=model_name, autocompletion=names_for
    ),
]
