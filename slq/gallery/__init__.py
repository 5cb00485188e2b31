"""Build operators whose spectra are known exactly, for tests, docs and demos.

Every function returns `(operator, law)`. The operator has `shape`, `dtype` and `matmat`, and is never stored as a
matrix (the Kneser graph, sparse, is the one exception). The `Law` is the spectrum of *that very operator*, not of a
limit: a continuous law is cut into n eigenvalues at its quantiles (i - 1/2) / n, and spikes, outliers and atoms take
the place of as many of them.

In float32, `law` stays the exact float64 spectrum and the operator matches it to the rounding of float32. Nothing is
random here: for sampled matrices (Wigner, Wishart) draw your own. A size that is not an integer is a TypeError
everywhere.
"""

from slq.gallery._continuous import marchenko_pastur, semicircle, spiked
from slq.gallery._graphs import hypercube, kneser
from slq.gallery._lattices import laplacian_1d, laplacian_2d, laplacian_3d
from slq.gallery._law import Law
from slq.gallery._placed import clustered, from_eigenvalues, graded, strakos

__all__ = [
    "Law",
    "clustered",
    "from_eigenvalues",
    "graded",
    "hypercube",
    "kneser",
    "laplacian_1d",
    "laplacian_2d",
    "laplacian_3d",
    "marchenko_pastur",
    "semicircle",
    "spiked",
    "strakos",
]
