"""The driver of Ollama: models that a server runs which other programs use too."""
