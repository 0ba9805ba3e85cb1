"""A stand-in that speaks Ollama's protocol over llama.cpp, for machines without Ollama, and for tests."""
