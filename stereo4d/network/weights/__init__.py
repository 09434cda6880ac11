"""Weights files: read safely, built strictly, written whole."""
