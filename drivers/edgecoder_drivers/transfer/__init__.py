"""Pieces between nodes over HTTP: the server on port 4303, and who fetches from it."""
