"""What the recorder keeps while a run goes on: open tasks and swaps, who believes what, and the files it writes.

Fidelity boundary: the recorder stands outside the world and sees all nodes at one instant, which nobody in a real mesh
could; none of this feeds back into the nodes.
"""
