"""What only coordinators do: the registry of agents, summaries to the federation, relaying tasks."""
