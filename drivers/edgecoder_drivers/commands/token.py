"""What a token is: the secret that requests to a control port have with them off loopback."""

from __future__ import annotations

from edgecoder.errors import ConfigError


def token_of(text: str, where: str) -> str:
    """A token from a file or a variable, without the white space around it. Raises ConfigError, which names `where` it
    stands and never what."""
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable():
        raise ConfigError(where, None, "this is no token", "write one line of ASCII into it")
    return token
