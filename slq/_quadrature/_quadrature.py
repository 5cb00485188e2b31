"""Tridiagonal matrices -> quadrature rules, on the host in float64.

A Lanczos run from unit v gives rules for the measure of v^T 1[A <= x] v. Gauss: exact to degree 2m - 1. Gauss-Radau:
one node prescribed, exact to degree 2m. Gauss-Lobatto: both ends prescribed, degree 2m - 1 again but with the opposite
error. No product is spent here and no error is claimed.

Source: Golub & Welsch 1969, doi:10.1090/S0025-5718-69-99647-1; Golub 1973, doi:10.1137/1015032; Golub & Meurant 2010.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh_tridiagonal, solve_banded

from slq._arrays import Floats
from slq._lanczos._tridiagonal import Tridiagonal


@dataclass(frozen=True, slots=True)
class Rule:
    """Quadrature rules of k probes.

    Attributes
    ----------
    nodes : ndarray, shape (probes, steps)
        Ascending in each row. A probe that stopped early repeats its last node, with its residual and weight zero.
    weights : ndarray, shape (probes, steps)
        Non-negative, summing to one in each row.
    residuals : ndarray, shape (probes, steps)
        An eigenvalue of A lies within this distance of the node.
    firsts : ndarray, shape (probes, steps, references)
        Inner products of each Ritz vector with the run's reference vectors; see `Tridiagonal.overlaps`.
    """

    nodes: Floats
    weights: Floats
    residuals: Floats
    firsts: Floats


def gauss(T: Tridiagonal, /) -> Rule:
    """Return the Gauss rules of tridiagonal matrices.

    Nodes are the eigenvalues of T, weights the squared first components of its eigenvectors, residuals the last beta
    times the last components. Costs O(steps**2) per probe on the host.

    Parameters
    ----------
    T : Tridiagonal
        As `slq.lanczos` returns it.

    Returns
    -------
    Rule
        Arrays of shape (probes, steps).

    References
    ----------
    Golub & Welsch 1969, doi:10.1090/S0025-5718-69-99647-1.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> rule = slq.gauss(slq.lanczos(np.diag([0.0, 1.0]), np.array([3.0, 4.0]), 2))
    >>> rule.weights.round(6)
    array([[0.36, 0.64]])
    """
    k, m, r = T.overlaps.shape
    nodes, weights, residuals, firsts = np.zeros((k, m)), np.zeros((k, m)), np.zeros((k, m)), np.zeros((k, m, r))
    for i, length in enumerate(T.lengths):
        alpha, beta = T.alpha[i, :length], T.beta[i, :length]
        theta, vectors = eigen_tridiagonal(alpha, beta[:-1])
        nodes[i, :length], nodes[i, length:] = theta, theta[-1]
        weights[i, :length] = vectors[0] ** 2 / np.sum(vectors[0] ** 2)
        residuals[i, :length] = beta[-1] * np.abs(vectors[-1])
        residuals[i, length:] = residuals[i, length - 1]
        firsts[i, :length] = vectors.T @ T.overlaps[i, :length]
    return Rule(nodes, weights, residuals, firsts)


def radau(alpha: Floats, beta: Floats, node: float) -> tuple[Floats, Floats]:
    """Return nodes and weights of the Gauss-Radau rule of one probe with a node at `node`, outside T's spectrum.

    `alpha` and `beta` have shape (m,); the rule has m + 1 nodes (Golub 1973, eq. 7.5). Where the last beta is zero the
    Gauss rule is exact and comes back with `node` added at weight zero.
    """
    scale = float(np.max(np.abs(alpha) + np.abs(beta))) or 1.0
    a, b, z = alpha / scale, beta / scale, node / scale
    if b[-1] == 0:
        theta, vectors = eigen_tridiagonal(a, b[:-1])
        return np.append(theta * scale, node), np.append(vectors[0] ** 2, 0.0)
    right = np.zeros(len(a))
    right[-1] = b[-1] ** 2
    bands = np.array([np.append(0.0, b[:-1]), a - z, np.append(b[:-1], 0.0)])
    last = z + solve_banded((1, 1), bands, right)[-1]
    theta, vectors = eigen_tridiagonal(np.append(a, last), b)
    nodes = theta * scale
    # The prescribed node is known exactly; its computed value can be off by a rounding of |T|.
    nodes[np.argmin(np.abs(theta - z))] = node
    return nodes, vectors[0] ** 2 / np.sum(vectors[0] ** 2)


def lobatto(alpha: Floats, beta: Floats, low: float, high: float) -> tuple[Floats, Floats]:
    """Return nodes and weights of the Gauss-Lobatto rule of one probe with nodes at `low` and `high`.

    Both must lie outside T's spectrum. `alpha` and `beta` have shape (m,); the rule has m + 1 nodes (Golub 1973,
    section 7) and does not depend on the last beta. Where that is zero the Gauss rule is exact and comes back.
    """
    scale = float(np.max(np.abs(alpha) + np.abs(beta))) or 1.0
    a, b, ends = alpha / scale, beta[:-1] / scale, np.array([low, high]) / scale
    if beta[-1] == 0:
        theta, vectors = eigen_tridiagonal(a, b)
        return theta * scale, vectors[0] ** 2
    unit = np.zeros(len(a))
    unit[-1] = 1.0
    off = np.append(0.0, b), np.append(b, 0.0)
    below, above = (solve_banded((1, 1), np.array([off[0], a - z, off[1]]), unit)[-1] for z in ends)
    square = (ends[1] - ends[0]) / (below - above)
    theta, vectors = eigen_tridiagonal(np.append(a, ends[0] + below * square), np.append(b, np.sqrt(square)))
    nodes = theta * scale
    nodes[0], nodes[-1] = low, high  # known exactly; the computed ones can be off by a rounding of |T|
    return nodes, vectors[0] ** 2 / np.sum(vectors[0] ** 2)


def eigen_tridiagonal(alpha: Floats, beta: Floats) -> tuple[Floats, Floats]:
    """Return eigenvalues and eigenvectors of a symmetric tridiagonal matrix of any scale."""
    scale = float(max(np.max(np.abs(alpha)), np.max(np.abs(beta), initial=0.0))) or 1.0
    theta, vectors = eigh_tridiagonal(alpha / scale, beta / scale, lapack_driver="stevd")
    return theta * scale, vectors
