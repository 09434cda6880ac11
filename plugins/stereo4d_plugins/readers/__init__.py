"""Readers of videos and images."""
