"""The engine that runs GGUF files with llama.cpp, in a process of its own."""
