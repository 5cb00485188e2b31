"""What a step does to the host's memory: passes over blocks of vectors, compiled where numba is installed."""
