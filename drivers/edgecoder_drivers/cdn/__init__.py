"""Model files from where the catalog says that they are: HTTPS with ranges."""
