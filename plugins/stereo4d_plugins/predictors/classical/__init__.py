"""Pairs from dense optical flow and two-view geometry: real footage without any weights."""
