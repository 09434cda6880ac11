"""Readers and viewers that ship with stereo4d, found by entry point like anybody's."""
