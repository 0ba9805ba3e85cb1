"""Models: the catalog, what this node has of it, and the swap of the active one."""
