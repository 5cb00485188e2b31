"""Traces, diagonals and f(A) b: what is asked of a matrix function, to a tolerance."""
