"""Further solvers of the alignment, for comparison."""
