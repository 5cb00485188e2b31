"""A block Krylov space that grows: an orthonormal basis of X, A X, A^2 X, ... and A seen through it.

True block Lanczos with all vectors kept. Blocks lose columns where the space stops growing, so that any X and any A
will do. f(A) is seen through the basis as f(Q^T A Q), which is exact where the space is invariant.
"""

from __future__ import annotations

import numpy as np

from slq._arrays import Array, Floats
from slq._errors import DomainError
from slq._quadrature._integrands import Integrand
from slq._traces._blocks import Blocks
from slq._traces._sketch import require_symmetric


class BlockKrylov:
    """The space of X and A, and its projections.

    Parameters
    ----------
    blocks : Blocks
        The operator.
    X : array, shape (n, b)
        Columns to begin with.

    Attributes
    ----------
    Q : array, shape (n, r)
        Orthonormal basis, block after block.
    sizes : list of int
        Columns of each block; all but the last have been multiplied.
    H : ndarray, shape (m, m)
        Q^T A Q of the m columns that have been multiplied, divided by the blocks' scale.
    """

    def __init__(self, blocks: Blocks, X: Array) -> None:
        self._blocks = blocks
        self.Q = blocks.orthonormal(X, None, blocks.size(X))
        self.sizes = [int(self.Q.shape[1])]
        self.H = np.zeros((0, 0))
        self._size = 0.0

    @property
    def finished(self) -> bool:
        """Whether the space is invariant."""
        return self.sizes[-1] == 0

    def advance(self, steps: int) -> None:
        """Multiply the last block, so many times over."""
        blocks = self._blocks
        for _ in range(steps):
            if self.finished:
                return
            done = len(self.H)
            last = self.Q[:, done:]
            image = blocks.product(last)
            seen = blocks.inner(self.Q, image)
            side, corner = seen[:done], seen[done:]
            require_symmetric(corner, blocks.epsilon)
            self.H = np.block([[self.H, side], [side.T, (corner + corner.T) / 2]])
            self._size = max(self._size, blocks.size(image))
            fresh = blocks.orthonormal(image, self.Q, self._size) if self._size else image[:, :0]
            self.sizes.append(int(fresh.shape[1]))
            if fresh.shape[1]:
                self.Q = blocks.xp.concat([self.Q, fresh], axis=1)

    def function(self, integrand: Integrand, steps: int | None = None) -> Floats:
        """Return f(Q^T A Q) of the first steps, by default of all."""
        m = sum(self.sizes[:-1][:steps])
        theta, vectors = np.linalg.eigh(self.H[:m, :m])
        return np.asarray((vectors * integrand.f(theta * self._unit)) @ vectors.T)

    def require_defined(self, integrand: Integrand) -> None:
        """Refuse a function that is undefined at an eigenvalue of the projection, hence somewhere on the spectrum."""
        require_defined(np.asarray(np.linalg.eigvalsh(self.H) * self._unit), integrand, self._blocks.epsilon)

    @property
    def _unit(self) -> float:
        """What the projection is in units of."""
        return self._blocks.scale or 1.0

    def basis(self, steps: int) -> Array:
        """Return the basis vectors of the first steps."""
        return self.Q[:, : sum(self.sizes[:-1][:steps])]


def require_defined(values: Floats, integrand: Integrand, epsilon: float) -> None:
    """Refuse a function that is undefined at one of the ascending eigenvalues of a projection."""
    slack = 8 * epsilon * float(np.max(np.abs(values)))
    if values[0] <= integrand.above + (-slack if integrand.closed else slack):
        msg = (
            f"`{integrand.name}` needs eigenvalues above {integrand.above:g}, but one is at most {values[0]:.6g} "
            "(certain, to rounding). Shift A, or check its sign."
        )
        raise DomainError(msg)
