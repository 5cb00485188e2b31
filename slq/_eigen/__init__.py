"""Eigenpairs: a restarted search that proves what it has found."""
