"""The command line: discovery of commands, and the two that need no extra."""
