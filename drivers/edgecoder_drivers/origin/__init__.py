"""A self-hosted origin: a folder with a catalog and the files that it names, over HTTP."""
