"""Thick-restart block Lanczos: a Krylov space of bounded size that converges to eigenvectors at the chosen end.

Vectors stay on the operator's device as rows of one array: locked vectors first, which every new vector is kept
orthogonal to and which take no part otherwise, then the basis, then the block to be multiplied next. Each step is one
product and two block Gram-Schmidt sweeps; the coefficients of these sweeps *are* the projected matrix, fetched every
few steps, so a restart, a fresh random vector or a non-trivial start need no case of their own. Where the host can look
at every step, a single vector first loses what symmetry tells of it, as in Lanczos' recurrence: then one sweep is
enough, unless it takes much away, and the basis is read half as often.

Source: Wu & Simon 2000, doi:10.1137/S0895479898334605, with all coefficients measured instead of assumed. How many
Ritz vectors survive a restart is chosen as by Yamazaki, Bai, Simon, Wang & Wu 2010, doi:10.1145/1824801.1824805.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slq import _arrays
from slq._arrays import Array, Floats
from slq._errors import RunError
from slq._lanczos import _rows
from slq._operators._operators import Operator, image_rows

# Coefficients are fetched after 1, 2, 4, 8 steps and then every 8: a copy is a synchronisation on a GPU. NumPy's are
# there at once.
_FETCH_EVERY = 8
# A block smaller than this many roundings of its product is an invariant subspace, as in `_lanczos`.
_BREAKDOWN_ROUNDINGS = 32.0
# Columns that a restart combines at once: it needs no second basis, and what is combined stays in the cache.
_PANEL = 1 << 13
# Norms may be so many roundings off one before a restart sets them right.
_UNIT_ROUNDINGS = 8.0
# A sweep that leaves less than this share of a vector is made again.
_ENOUGH = 0.5


class Ritz(NamedTuple):
    """Eigenpairs of the projected matrix: values ascending, coefficients as columns, residual norms."""

    values: Floats
    coefficients: Floats
    residuals: Floats


class Saved(NamedTuple):
    """What `Restarts.state` gave, and all rows: with it a space goes on as if it had not been left."""

    arrays: Mapping[str, npt.NDArray[Any]]
    facts: Mapping[str, Any]
    rows: Iterable[npt.NDArray[Any]]


class Restarts:
    """A basis that grows by products and shrinks by restarts.

    Parameters
    ----------
    operator : Operator
        The matrix.
    draw : callable
        Makes fresh random rows, given how many.
    dtype : dtype
        Of the vectors.
    size : int
        Most vectors of the basis.
    start : array, shape (b, n), or Saved
        First block; made orthonormal here. Or where an earlier space goes on.
    locked : array, shape (d, n), optional
        Orthonormal rows; the matrix is taken on what is orthogonal to them.
    scale : float, optional
        What products are divided by; by default the size of the first one, where that is extreme.

    Attributes
    ----------
    used : int
        Vectors of the basis that have been multiplied.
    room : int
        Dimension of what is orthogonal to the locked vectors.
    tail : ndarray
        Coefficients of the next block's vectors in A times the basis, one row each.
    products : int
        Columns multiplied so far.
    norm : float
        The largest product of a unit vector so far, an estimate of |A| from below.
    unit : float
        Relative rounding of products.
    underflow : float
        The same of products that are subnormal numbers, 0 for others.
    asymmetry : float
        Largest |u^T A v - v^T A u| among basis vectors that should be zero.
    left, made : int
        Steps to go and steps done since they were asked for.
    version : int
        How often vectors were changed, not only added to.
    after_step : callable or None
        Called after each step with True, and with False where one has failed, as long as the steps before can be saved.
    """

    def __init__(
        self,
        operator: Operator,
        draw: Callable[[int], Array],
        dtype: Any,
        *,
        size: int,
        start: Array | Saved,
        locked: Array | None = None,
        scale: float | None = None,
    ) -> None:
        self._operator, self._xp, self._dtype, self._draw = operator, operator.xp, dtype, draw
        self._local, self._reduce = operator.shards.local, operator.reduce
        if isinstance(start, Saved):
            self._locked, self._block = int(start.facts["locked"]), int(start.facts["block"])
        else:
            self._locked, self._block = 0 if locked is None else int(locked.shape[0]), int(start.shape[0])
        self.room = operator.n - self._locked
        self.size = min(size, self.room)
        shape = (self._locked + self.size + self._block, self._local)
        self._rows = self._xp.zeros(shape, dtype=dtype, device=operator.device)
        if locked is not None:
            self._put(0, locked)
        self.used, self._width = 0, 0
        field: Any = np.complex128 if _arrays.is_complex(dtype) else np.float64
        self._projected = np.zeros((self.size, self.size), dtype=field)
        self.tail = np.zeros((0, 0))
        self._scale = scale
        self._chunk, self._ahead, self._on_host = 1, 0, _arrays.host_view(self._rows) is not None
        self._pending: list[tuple[Array, Array]] = []
        self.unit = max(_arrays.epsilon(dtype), _arrays.epsilon(operator.dtype))
        self.products, self.norm, self.asymmetry = 0, 0.0, 0.0
        self.underflow = 0.0
        self.left, self.made, self.version = 0, 0, 0
        self.after_step: Callable[[bool], object] | None = None
        self._first: tuple[Array, Array] | None = None
        if isinstance(start, Saved):
            self._restore(start)
        else:
            self._place(start)

    @property
    def complete(self) -> bool:
        """Whether the basis spans all that is orthogonal to the locked vectors."""
        return self.used == self.room

    @property
    def full(self) -> bool:
        """Whether another block does not fit."""
        return self.used + self._width > self.size

    @property
    def scale(self) -> float | None:
        """What products are divided by: a power of two, 1 for all but extreme units; None before the first."""
        return self._scale

    def take_up(self, values: Floats, rows: Array, couplings: Floats) -> None:
        """Go on from the Ritz vectors of another Krylov space, as after a restart.

        The one vector of `start` is what would have come next there, `couplings` are its coefficients in A times rows.
        """
        first, count = self._locked, len(values)
        following = self._rows[first : first + 1, :]
        self._put(first + count, following)
        self._put(first, rows)
        self._projected[range(count), range(count)] = values
        self.tail, self.used = np.array(couplings, dtype=np.float64)[None, :], count
        self.norm = max(self.norm, float(np.max(np.abs(values))))

    def advance(self, steps: int, products: int) -> None:
        """Multiply up to `steps` blocks, as far as they fit into the basis and the number of products left."""
        self.ask(steps)
        self.go_on(products)

    def ask(self, steps: int) -> None:
        """Say how many steps `go_on` shall make."""
        self.left, self.made = steps, 0

    def go_on(self, products: int) -> None:
        """Make the steps that are left of those that were asked for."""
        last, broken = self.products + products, False
        while not broken and (self._ahead or self._pending or self._fits(last)):
            if not (self._ahead or self._pending):  # no saved space is in the middle of it
                self._ahead = min(self.left, self._chunk)
            try:
                self._steps(last)
            finally:  # when a product raises, the steps before it are kept
                broken = self._fetch()
            self._chunk = 1 if broken or self._on_host else min(2 * self._chunk, _FETCH_EVERY)

    def _fits(self, last: int) -> bool:
        """Whether another step is asked for, fits, and leaves products at or below `last`."""
        return self.left > 0 and not (self.full or self.complete or self.products + self._width > last)

    def _steps(self, last: int) -> None:
        """Make the steps up to the next copy of coefficients."""
        while self._ahead:
            try:
                self._step()
            except Exception:
                self._tell(False)
                raise
            self.left, self.made = self.left - 1, self.made + 1
            self._ahead = self._ahead - 1 if self._fits(last) else 0
            self._tell(True)

    def _tell(self, whole: bool) -> None:
        if self.after_step is not None:
            self.after_step(whole)

    def ritz(self) -> Ritz:
        """Return all eigenpairs of the projected matrix, with the residual norms that they have in exact arithmetic."""
        m = self.used
        values, coefficients = np.linalg.eigh(self._projected[:m, :m])
        return Ritz(values, coefficients, np.linalg.norm(self.tail @ coefficients, axis=0))

    def vectors(self, coefficients: Floats) -> Array:
        """Return combinations of the basis as rows, from columns of coefficients."""
        basis = self._rows[self._locked : self._locked + self.used, :]
        return self._xp.matmul(self._host(coefficients.T), basis)

    def restart(self, ritz: Ritz, keep: npt.NDArray[np.intp]) -> None:
        """Shrink the basis to the given Ritz vectors."""
        first, m, count = self._locked, self.used, len(keep)
        factors = self._host(ritz.coefficients[:, keep].T)
        panel, squares = (
            _PANEL if self._on_host else max(self._local, 1),
            self._xp.zeros(
                (count,), dtype=_arrays.accumulator_dtype(self._xp, self._operator.device), device=self._operator.device
            ),
        )
        for left in range(0, self._local, panel):
            columns = slice(left, min(left + panel, self._local))
            combined = self._xp.matmul(factors, self._rows[first : first + m, columns])
            squares = squares + _rows.squares(combined, self._xp)
            self._rows = _arrays.assign(self._rows, (slice(first, first + count), columns), combined)
        self._put(first + count, self._rows[first + m : first + m + self._width, :])
        sizes = self._xp.sqrt(self._reduce(squares))
        if float(self._xp.max(self._xp.abs(sizes - 1.0))) > _UNIT_ROUNDINGS * _arrays.epsilon(self._dtype):
            kept = self._rows[first : first + count, :]
            self._put(first, kept / self._cast(sizes)[:, None])
        self._projected[:] = 0.0
        self._projected[range(count), range(count)] = ritz.values[keep]
        self.tail, self.used = self.tail @ ritz.coefficients[:, keep], count
        self.version += 1

    # -- leaving and coming back -------------------------------------------------------------------------------------

    @property
    def rows(self) -> int:
        """Rows that a saved space has: locked ones, the basis, the block to be multiplied next."""
        return self._locked + self.used + self._width

    @property
    def locked(self) -> Array:
        """The locked rows."""
        return self._rows[: self._locked, :]

    @property
    def first(self) -> tuple[Floats, Floats] | None:
        """Coefficients of the very first step: those of the block in its own product, and what was left."""
        if self._first is None:
            return None
        C, R = (_arrays.to_host(x) for x in self._first)
        return C[self._locked : self._locked + R.shape[1]], R

    def state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any], int]:
        """Return all but the rows as arrays and facts, and how many rows belong to it; without steps that failed."""
        whole = next((i for i, found in enumerate(self._pending) if not _finite(found)), len(self._pending))
        pending = [[_arrays.to_host(x) for x in found] for found in self._pending]
        lost = [R.shape[0] for _, R in pending[whole:]]
        width, less = (lost or [self._width])[0], sum(lost)
        arrays = {"projected": self._projected, "tail": self.tail}
        for i, (C, R) in enumerate(pending[:whole]):
            arrays |= {f"pending{i}": C, f"coupling{i}": R}
        facts = {
            "locked": self._locked, "used": self.used - less, "width": width, "block": self._block, "size": self.size,
            "scale": self._scale, "chunk": self._chunk, "ahead": self._ahead + len(lost), "pending": whole,
            "unit": self.unit, "products": self.products - less, "norm": self.norm, "asymmetry": self.asymmetry,
            "underflow": self.underflow, "left": self.left + len(lost), "made": self.made - len(lost),
            "version": self.version,
        }  # fmt: skip
        return arrays, facts, self._locked + self.used - less + width

    def stored(self, first: int, last: int) -> Iterable[npt.NDArray[Any]]:
        """Give rows on the host, as they are, one by one."""
        return (_arrays.to_host_exactly(self._rows[i : i + 1, :]) for i in range(first, last))

    def _restore(self, saved: Saved) -> None:
        arrays, facts = saved.arrays, saved.facts
        self._projected, self.tail = np.array(arrays["projected"]), arrays["tail"]
        self.used, self._width, self._scale = facts["used"], facts["width"], facts["scale"]
        self._chunk, self._ahead, self.unit = facts["chunk"], facts["ahead"], facts["unit"]
        self.products, self.norm, self.asymmetry = facts["products"], facts["norm"], facts["asymmetry"]
        self.underflow, self.left, self.made = facts["underflow"], facts["left"], facts["made"]
        self.version = facts["version"]
        self._pending = [(arrays[f"pending{i}"], arrays[f"coupling{i}"]) for i in range(facts["pending"])]
        count = 0
        for count, row in enumerate(saved.rows, start=1):
            if not np.isfinite(row).all():
                msg = "vectors that are not finite"
                raise ValueError(msg)
            self._put(count - 1, _arrays.from_host(row, self._xp, dtype=self._dtype, device=self._operator.device))
        if self._projected.shape != (self.size, self.size) or count != self.rows:
            msg = f"{count} vectors where {self.rows} belong, basis of {self.size}"
            raise ValueError(msg)

    # -- steps ------------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        """Multiply the newest block; what is left after projection becomes the next."""
        xp, first, last = self._xp, self._locked + self.used, self._locked + self.used + self._width
        images = image_rows(self._operator, self._rows[first:last, :])
        unit = max(self.unit, _arrays.epsilon(images.dtype))
        images = self._cast(images)
        if self._scale is None:
            size, n = self._operator.shards.largest(images, xp), self._operator.n
            self._scale = _arrays.extreme_scale(size, self._dtype)
            self.underflow = _arrays.underflow(n, size, self._operator.dtype)
            unit = max(unit, self.underflow)
        if self._scale != 1.0:
            images = images / self._scale
        if self._on_host and self._width == 1:
            images, coefficients, coupling = self._recur(images, first)
        else:
            images, coefficients, coupling = self._sweep_twice(images, last)
        self._put(last, images)
        # Only now: what fails before has changed nothing.
        self._pending.append((coefficients, coupling))
        self._first = self._first or (coefficients, coupling)
        self.products, self.used, self.unit = self.products + self._width, self.used + self._width, unit

    def _sweep_twice(self, images: Array, last: int) -> tuple[Array, Array, Array]:
        """Return orthonormal rows of what lies outside the basis, coefficients inside, and the coupling to the rows."""
        images, coefficients = self._project_out(images, last)
        images, coupling = self._normalise(images)
        images, correction = self._project_out(images, last)
        images, change = self._normalise(images)
        return images, coefficients + self._xp.matmul(correction, coupling), self._xp.matmul(change, coupling)

    def _recur(self, image: Array, first: int) -> tuple[Array, Array, Array]:
        """Do the same with one image of the row at `first`, from what symmetry tells of it and one sweep.

        That is the tail, which is up to date since the host fetches after each step.
        """
        xp, row = self._xp, self._rows[first : first + 1, :]
        told = xp.zeros((first + 1, 1), dtype=self._dtype, device=self._operator.device)
        coupled = np.flatnonzero(self.tail.any(axis=0))
        if coupled.size:
            begin, known = self._locked + int(coupled[0]), self._host(self.tail[:, coupled[0] :].conj().T)
            image = image - xp.matmul(known.T, self._rows[begin:first, :])
            told[begin:first, :] = known
        told[first:, :] = own = _rows.inner(row, image, xp, self._reduce)
        image = image - own * row
        most = (1 - _ENOUGH**2) * float(_rows.squares(image, xp, self._reduce)[0])
        image, seen = self._project_out(image, first + 1)
        if float(_rows.squares(seen.T, xp)[0]) > most:
            image, again = self._project_out(image, first + 1)
            seen = seen + again
        image, coupling = self._normalise(image)
        return image, told + seen, coupling

    def _cast(self, x: Array) -> Array:
        return _arrays.cast(x, self._dtype, self._xp)

    def _normalise(self, rows: Array) -> tuple[Array, Array]:
        """Return orthonormal rows Q and the R with rows = R^T Q."""
        xp = self._xp
        if rows.shape[0] > 1:
            return _rows.orthonormal(rows, xp, self._reduce)
        size = xp.sqrt(_rows.squares(rows, xp, self._reduce))
        return rows / self._cast(xp.where(size > 0, size, xp.ones_like(size)))[:, None], self._cast(size)[:, None]

    def _fetch(self) -> bool:
        """Enter pending coefficients into the projected matrix; cut off what came after an invariant subspace.

        Tells whether there was one.
        """
        self._pending = [(_arrays.to_host(C), _arrays.to_host(R)) for C, R in self._pending]
        if not all(_finite(found) for found in self._pending):
            self._tell(False)
        pending, self._pending = self._pending, []
        end = self.used - sum(R.shape[0] for _, R in pending)
        for C, R in pending:
            width = R.shape[0]
            if not _finite((C, R)):
                self.used = end
                self._raise_not_finite()
            begin, end = end, end + width
            self._enter(C[self._locked : self._locked + end], begin, end)
            self.tail = np.hstack([np.zeros((width, begin)), R])
            size = float(np.linalg.norm(np.vstack([C, R])))
            self.norm = max(self.norm, size)
            left, sizes, right = np.linalg.svd(R)
            noise = max(_BREAKDOWN_ROUNDINGS * self.unit, self._operator.noise)
            alive = int(np.sum(sizes > noise * min(self.norm, 2 * size)))
            if alive < width:
                self.used = end
                self._shrink(left[:, :alive], (sizes[:, None] * right)[:alive])
                return True
        return False

    def _enter(self, C: Floats, begin: int, end: int) -> None:
        """Enter one block's column, and see how far the row measured before differs."""
        expected = self.tail if begin else C[:0]
        strangers = C[:begin].copy()
        if begin and expected.shape == (end - begin, begin):
            strangers -= expected.conj().T
        self.asymmetry = max(self.asymmetry, float(np.linalg.norm(strangers)))
        own = C[begin:end]
        self._projected[:begin, begin:end] = C[:begin]
        self._projected[begin:end, :begin] = C[:begin].conj().T
        self._projected[begin:end, begin:end] = (own + own.conj().T) / 2

    def _shrink(self, mixing: Floats, coupling: Floats) -> None:
        """Go on with the directions of the next block that are left, or with random ones where none is."""
        last = self._locked + self.used
        width = mixing.shape[1]
        self.version += 1
        if width:
            block = self._rows[last : last + self._width, :]
            self._put(last, self._xp.matmul(self._host(mixing.T), block))
            self._width, self.tail = width, np.hstack([np.zeros((width, self.used - coupling.shape[1])), coupling])
        else:
            self.tail = np.zeros((0, self.used))
            self._width = 0
            if not self.complete:
                self._place(self._draw(min(self._block, self.room - self.used)))
                self.tail = np.zeros((self._width, self.used))

    def _place(self, rows: Array) -> None:
        """Make rows orthonormal to all there is and put them where the next block stands."""
        last = self._locked + self.used
        rows, _ = _rows.orthonormal(rows, self._xp, self._reduce)
        for _ in range(2):  # the first may leave little, the second makes what is left orthogonal to rounding
            if last:
                rows, _ = self._project_out(rows, last)
                rows, _ = self._project_out(rows, last)
            rows, _ = _rows.orthonormal(rows, self._xp, self._reduce)
        self._put(last, rows)
        self._width = int(rows.shape[0])

    def _project_out(self, rows: Array, last: int) -> tuple[Array, Array]:
        """Remove the components along the first rows of the basis; return them as columns too."""
        xp, basis = self._xp, self._rows
        if not hasattr(basis, "at"):
            basis = basis[:last, :]
            coefficients = _rows.inner(basis, rows, xp, self._reduce)
        else:  # jax compiles for every shape it meets: it reads all rows and forgets those that do not count
            valid = xp.arange(basis.shape[0], device=self._operator.device) < last
            coefficients = xp.where(valid[:, None], _rows.inner(basis, rows, xp, self._reduce), 0.0)
        return rows - xp.matmul(coefficients.T, basis), coefficients

    def _put(self, first: int, rows: Array) -> None:
        self._rows = _arrays.assign(self._rows, (slice(first, first + rows.shape[0]), slice(None)), rows)

    def _host(self, values: Floats) -> Array:
        return _arrays.from_host(values, self._xp, dtype=self._dtype, device=self._operator.device)

    def _raise_not_finite(self) -> None:
        msg = (
            f"the product gave NaN or Inf after {self.products} products. Common causes: a loss that overflows in half "
            "precision, a division by zero inside the operator, uninitialised memory. `slq.check` looks for the cause."
        )
        raise RunError(msg)


def _finite(found: tuple[Array, Array]) -> bool:
    return all(bool(np.isfinite(_arrays.to_host(x)).all()) for x in found)
