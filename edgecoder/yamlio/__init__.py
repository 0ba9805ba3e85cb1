"""YAML whose every value knows where it was written, and mistakes in it put into words."""
