"""Other programs that reconstruct clips, to measure against."""
