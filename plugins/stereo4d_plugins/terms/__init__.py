"""Further terms of the alignment, beside what the pairs say."""
