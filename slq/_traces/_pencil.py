"""Generalised problems A x = lambda B x, B positive definite, as one symmetric operator.

With a factor B = L L^T it is C = L^-1 A L^-T. With products and solves of B it is C = B^-1/2 A B^-1/2, run as Lanczos
on B^-1 A in the inner product x^T B y: a step costs a product with A and a solve with B. Random vectors g of the sphere
become v = B^-1/2 g, by Lanczos on B; so the law of the probes is the known one, and T is that of C from g. Starting
from g itself would weigh each eigenvalue by B's size on its eigenvector.

Sources: Xi, Li & Saad 2018, doi:10.1137/17M1135542 (start vectors); Ericsson & Ruhe 1980,
doi:10.1090/S0025-5718-1980-0583502-2 (the inner product).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from slq import _arrays
from slq._arrays import Array
from slq._lanczos._pencil_krylov import PencilKrylov
from slq._lanczos._probes import probes
from slq._operators._operators import (
    Operator,
    as_symmetric,
    as_whole,
    noise_of,
    require_block,
    require_one_home,
    unknown_traces,
)
from slq._traces._apply import apply

Multiply = Callable[[Array], Array]

# B^1/2 g is computed to so many roundings.
_ROUNDINGS = 1e3
# B solve_B(x) may differ from x by this share: what is worse is no inverse. What is better is part of the noise.
_INVERSE = 1e-2
# Columns on which the inverse is tried.
_TRIED = 2


def pencil(
    A: Any, B: Any = None, /, *, solve_B: Multiply | None = None, factor: tuple[Multiply, Multiply] | None = None
) -> Operator:
    """Return the symmetric operator with the eigenvalues of A x = lambda B x.

    Everything that slq tells of it is told of these eigenvalues. Its eigenvectors y are not x: x = L^-T y with
    `factor`, x = B^-1/2 y with `solve_B`.

    Parameters
    ----------
    A : operator
        Symmetric (Hermitian with `factor`); anything that `slq.as_operator` takes.
    B : operator, optional
        Symmetric positive definite, of A's array library, device and dtype. Needed with `solve_B`.
    solve_B : callable, optional
        (n, b) block -> (n, b) block: B^-1 times it.
    factor : pair of callables, optional
        Of any factor B = L L^T: blocks times L^-1, and times L^-T (the adjoint). Preferred where there is one: a
        product costs both and one with A, all functions work at that price, and B itself is not needed.

    Returns
    -------
    Operator
        With `factor`: L^-1 A L^-T. With `solve_B`: B^-1/2 A B^-1/2; a step of `slq.spectrum` costs a product with A
        and a solve, with full re-orthogonalisation two products with B besides. Other functions, such as `slq.eigsh`,
        pay two Lanczos runs on B for each product.

    Raises
    ------
    TypeError
        If the operators differ in array library, device or dtype, or are complex with `solve_B`.
    ValueError
        If not exactly one of `solve_B` and `factor` is given, B is missing, shapes differ, or `solve_B` is no inverse
        of B, or B not positive definite, as far as two random vectors tell.

    Notes
    -----
    Certain statements stay so to the accuracy of the solves: the error of B solve_B(x), measured on two vectors,
    becomes the operator's relative noise. Where B is badly conditioned, the solves' own rounding is larger than that.

    References
    ----------
    Xi, Li & Saad 2018, doi:10.1137/17M1135542.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> A, b = np.diag([1.0, 4.0, 9.0]), np.array([1.0, 2.0, 3.0])
    >>> C = slq.pencil(A, np.diag(b), solve_B=lambda X: X / b[:, None])
    >>> slq.spectrum(C, probes=1, steps=3, rng=0).nodes.round(6)
    array([[1., 2., 3.]])
    """
    if (solve_B is None) == (factor is None):
        msg = "give either `solve_B`, with B, or `factor`, a pair of callables that multiply blocks by L^-1 and L^-T."
        raise ValueError(msg)
    if factor is not None:
        return _by_factor(as_whole(A), *factor)
    if B is None or solve_B is None:
        msg = "`B` is missing: with `solve_B` products with B are needed too, for the law of the start vectors."
        raise ValueError(msg)
    return _by_solves(as_symmetric(A), as_symmetric(B), solve_B)


def _by_factor(A: Operator, solve: Multiply, solve_adjoint: Multiply) -> Operator:
    def product(X: Array) -> Array:
        return _checked(solve, "factor[0]", A.matmat(_checked(solve_adjoint, "factor[1]", X)))

    kind = f"pencil of {A.metadata.get('kind', 'operator')}"
    return replace(
        A, product=product, krylov=None, traces=unknown_traces, source=None, noise=noise_of(A), metadata={"kind": kind}
    )


def _by_solves(A: Operator, B: Operator, solve_B: Multiply) -> Operator:
    if A.shape != B.shape:
        msg = f"`A` and `B` must have one shape, got {A.shape} and {B.shape}."
        raise ValueError(msg)
    require_one_home((A, B))
    xp, rtol = A.xp, _ROUNDINGS * _arrays.epsilon(A.dtype)

    def solved(X: Array) -> Array:
        return _checked(solve_B, "solve_B", X)

    def root(X: Array) -> Array:
        return _arrays.cast(apply(B, X, "sqrt", rtol).value, X.dtype, xp)

    error = _error_of_inverse(B, solved)

    def krylov(start: Array, *, reorth: bool, references: Array | None, precision: Any = None) -> PencilKrylov:
        del precision  # past vectors are kept as they are
        return PencilKrylov(start, A, B, solved, root, reorth=reorth, references=references)

    return replace(
        A,
        product=lambda X: root(solved(A.matmat(solved(root(X))))),
        order="C",
        krylov=krylov,
        traces=unknown_traces,
        source=None,
        deflates=False,
        noise=max(noise_of(A), noise_of(B), error),
        metadata={"kind": f"pencil of {A.metadata.get('kind', 'operator')} and {B.metadata.get('kind', 'operator')}"},
    )


def _error_of_inverse(B: Operator, solved: Multiply) -> float:
    """Return how far B solve_B(x) is from x beyond rounding; refuse what is no inverse of a positive definite B."""
    xp = B.xp
    rows = probes(B.n, range(_TRIED), seed=0)
    X = _arrays.from_host(rows.T, xp, dtype=B.dtype, device=B.device)
    images = solved(X)
    energies = _arrays.to_host(xp.sum(X * images, axis=0))
    back = _arrays.to_host(B.matmat(images))
    error = float(np.max(np.linalg.norm(back - rows.T, axis=0)))
    if not error <= _INVERSE:
        msg = (
            f"`solve_B` is no inverse of B: B solve_B(x) differs from x by {error:.2g} of |x|, on random vectors. It "
            "must map (n, b) blocks to B^-1 times them; an iterative solver needs a smaller tolerance."
        )
        raise ValueError(msg)
    if not np.all(energies > 0):
        msg = f"`B` must be positive definite, but x^T B^-1 x = {energies.min():.3g} for a random unit vector x."
        raise ValueError(msg)
    return error if error > _ROUNDINGS * _arrays.epsilon(B.dtype) else 0.0


def _checked(function: Multiply, name: str, X: Array) -> Array:
    """Return a block times what a user's function stands for; refuse another shape, library or field."""
    block = function(X)
    try:
        require_block(block, X)
    except Exception as error:
        error.add_note(f"This came from `{name}`.")
        raise
    return block
