"""From tridiagonal matrices to one estimated distribution of the eigenvalues, and how far off it can be."""
