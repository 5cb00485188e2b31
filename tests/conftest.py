"""Settings for the whole suite."""

import os

# Its matrices are small: threads of BLAS and OpenMP would only wait for each other. Set before NumPy or torch load.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
