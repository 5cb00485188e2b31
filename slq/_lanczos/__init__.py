"""From an operator and start vectors to tridiagonal matrices, on any array library and device."""
