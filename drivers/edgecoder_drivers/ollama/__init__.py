"""The driver of Ollama: models that a server runs which other programs use too.

The official client makes one of its own when it is imported, of what OLLAMA_HOST says, and not all that Ollama
understands there is understood by it: so it is imported here, without that.
"""

import os

_told = os.environ.pop("OLLAMA_HOST", None)
try:
    import ollama  # noqa: F401
finally:
    if _told is not None:
        os.environ["OLLAMA_HOST"] = _told
