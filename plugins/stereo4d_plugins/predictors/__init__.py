"""Pair predictors that need no weights."""
