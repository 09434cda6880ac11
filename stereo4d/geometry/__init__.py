"""Cameras, rigid motions and pointmaps. OpenCV axes; pixel centres at integers."""
