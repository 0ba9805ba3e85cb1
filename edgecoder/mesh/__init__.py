"""A node among nodes: peers, capabilities, heartbeats, routing, tasks."""
