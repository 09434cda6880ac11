"""The heads that ship with stereo4d; each is found by its entry point, as a stranger's would be."""
