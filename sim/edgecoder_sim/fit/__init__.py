"""A scenario from journals: what a recorded mesh was like, in the simulator's terms."""
