"""Doctests of a module, and scripts that tests start, need the library that they are about."""

from importlib.util import find_spec

NEEDS = {
    "cupy": ["adapters/slq_cupy"],
    "cyclopts": [f"slq/_command/_{name}.py" for name in ("asking", "drawing", "terminal", "verbs")],
    "jax": ["adapters/slq_jax"],
    "matplotlib": ["slq/_drawing", "slq/plot.py"],
    "numba": [f"slq/_kernels/_{name}.py" for name in ("kernels_numba", "simd", "sweeps_numba")],
    "torch": ["adapters/slq_torch", "slq/_command/_digits.py", "tests/slq_torch/distributed", "tests/slq_torch/ranks"],
}
collect_ignore = [path for library, paths in NEEDS.items() if find_spec(library) is None for path in paths]
