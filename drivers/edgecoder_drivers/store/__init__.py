"""Model files, and what a node keeps beside them, on a real disk."""
