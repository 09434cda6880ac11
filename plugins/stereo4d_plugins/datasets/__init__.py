"""Data sets that training can draw pairs from, found by entry point (group ``stereo4d.datasets``)."""
