"""The control server of an agent, port 4302: what its user asks of it over HTTP."""
