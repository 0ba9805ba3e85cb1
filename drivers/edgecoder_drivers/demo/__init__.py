"""`edgecoder demo`: a whole mesh on this machine, of real processes with tiny models."""
