"""The node and what it is made of: events, effects, operations, timers, random streams."""
