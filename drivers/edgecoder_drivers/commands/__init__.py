"""The commands of agents and devices."""
