"""Viewers: scenes as files that a person can look at."""
