"""What no distribution of files can beat, from plain numbers: for reports, checkers and benchmarks.

`closed` has formulas for a flash crowd, `churn` the same for nodes that come and go, `oracle` the fewest CDN bytes by a
linear program, `meetings` what people who meet can carry to each other, and `epidemic` what a naive policy carries.
Every bound holds for any policy in the simulated world: a result below one is a fault of the simulator.
"""
