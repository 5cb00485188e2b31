"""A growing basis of what A makes of random probes, and A seen through it: the common ground of Hutch++ and XTrace.

Q spans A Omega for the probes Omega; R = Q^T A Omega, W = Q^T Omega and H = Q^T A Q are small and on the host. Growing
keeps Q and H, so that doubling costs only what is new.
"""

from __future__ import annotations

import numpy as np

from slq import _arrays, _doubts
from slq._arrays import Array, Floats
from slq._lanczos._probes import Kind
from slq._quadrature._bounds import spread
from slq._traces._blocks import Blocks

# A probe whose column of a sketch is a combination of the others' has a leverage below one; nearer is one.
_ESSENTIAL = 1e-9


class Sketch:
    """The basis Q of A Omega and the small matrices seen through it.

    Parameters
    ----------
    blocks : Blocks
        The operator.
    kind : {"sphere", "rademacher"}
        Law of the probes.
    keep : bool, default False
        Whether to keep A Q, for diagonals.
    """

    def __init__(self, blocks: Blocks, kind: Kind, *, keep: bool = False) -> None:
        self._blocks, self._kind, self._keep = blocks, kind, keep
        self._omega: Array | None = None
        self._seen: Array | None = None
        self._images: Array | None = None
        self.Q: Array | None = None
        self._size = 0.0
        self.H = np.zeros((0, 0))
        self.R = self.W = np.zeros((0, 0))

    @property
    def probes(self) -> int:
        """Number of probes so far."""
        return 0 if self._omega is None else int(self._omega.shape[1])

    @property
    def rank(self) -> int:
        """Dimension of the basis, which can be smaller."""
        return len(self.H)

    def grow(self, count: int) -> None:
        """Add probes: one product for each, and one for each new basis vector."""
        if count == 0:  # of a few products more, the sketch's share may be none
            return
        blocks = self._blocks
        omega = blocks.draw(range(self.probes, self.probes + count), self._kind)
        images = blocks.product(omega)
        self._size = max(self._size, blocks.size(images))
        fresh = blocks.orthonormal(images, self.Q, self._size)
        self._omega = omega if self._omega is None else blocks.xp.concat([self._omega, omega], axis=1)
        self._images = images if self._images is None else blocks.xp.concat([self._images, images], axis=1)
        if fresh.shape[1]:
            seen = blocks.product(fresh)
            corner = blocks.inner(fresh, seen)
            side = np.zeros((self.rank, fresh.shape[1])) if self.Q is None else blocks.inner(self.Q, seen)
            self.Q = fresh if self.Q is None else blocks.xp.concat([self.Q, fresh], axis=1)
            if self._keep:
                self._seen = seen if self._seen is None else blocks.xp.concat([self._seen, seen], axis=1)
            require_symmetric(corner, blocks.epsilon)
            self.H = np.block([[self.H, side], [side.T, (corner + corner.T) / 2]])
        if self.Q is not None and self.rank:
            self.R, self.W = blocks.inner(self.Q, self._images), blocks.inner(self.Q, self._omega)
        else:
            self.R = self.W = np.zeros((0, self.probes))

    def diagonals(self) -> tuple[Floats, Floats]:
        """Return XDiag's estimate of diag A, shape (n,), and its standard error.

        Without probe i the basis loses q_i = Q s_i, and the rest of A omega_i is q_i (s_i^T R_i).
        """
        n = self._blocks.operator.n
        if self.Q is None or self._seen is None or self._omega is None:
            return np.zeros(n), np.zeros(n)
        Q, Z, omega = (_arrays.to_host(X) for X in (self.Q, self._seen, self._omega))
        S = lost_directions(self.R)
        gone = Q @ S.T
        samples = omega * gone * np.einsum("ij,ji->i", S, self.R) - gone * (Z @ S.T)
        k = samples.shape[1]
        error = spread(samples) / np.sqrt(k) if k > 1 else np.zeros(n)  # one probe is all of n = 1
        return np.sum(Q * Z, axis=1) + samples.mean(axis=1), error


def lost_directions(R: Floats) -> Floats:
    """Return, per column of R, the unit vector that its span loses without that column, as rows, shape (s, rank).

    It is the normalised row of R's pseudo-inverse; zero where the column is a combination of the others.
    """
    unit = R / (float(np.max(np.abs(R), initial=0.0)) or 1.0)
    inverse = np.linalg.pinv(unit, rcond=np.finfo(np.float64).eps)
    essential = np.einsum("ij,ji->i", inverse, unit) > 1 - _ESSENTIAL
    rows = np.where(essential[:, None], inverse, 0.0)
    return np.asarray(rows / np.where(essential, np.linalg.norm(rows, axis=1), 1.0)[:, None])


def require_symmetric(H: Floats, epsilon: float) -> None:
    """Warn where a projection of A shows that A is not symmetric."""
    asymmetry = float(np.linalg.norm(H - H.T) / (np.linalg.norm(H) or 1.0))
    if asymmetry > _doubts.suspicious(epsilon, 0.0):
        advice = "Pass (A + A^T) / 2, which has the same trace."
        _doubts.warn(_doubts.asymmetric(asymmetry, advice), above=2)
