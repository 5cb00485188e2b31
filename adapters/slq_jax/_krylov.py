"""The Lanczos recurrence of slq in a few compiled functions, each compiled once for all steps of a run.

The same operations in the same order as `slq._lanczos._krylov`, which runs on JAX arrays too, but one by one: there
every new length of the basis would be compiled anew, seconds per run. Here vectors lie in blocks of 16 padded with
zeros, past probes stay in their rows, and a step is two compiled calls and two per block. Nothing waits for the device.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import NamedSharding, PartitionSpec

from slq._arrays import to_host
from slq._lanczos._krylov import PAIRS, Krylov, asymmetry_of
from slq_jax._parameters import x64_enabled
from slq_jax._placement import Placement

_BLOCK = 16
_EXACT = jax.lax.Precision.HIGHEST
Floats = npt.NDArray[np.float64]


def recurrence(
    placement: Placement, start: jax.Array, *, reorth: bool, precision: str | None = None, references: Any = None
) -> "JaxKrylov | Krylov":
    """Return the compiled recurrence; the core's where past vectors are to be kept more coarsely than they are."""
    if reorth and precision not in (None, str(start.dtype)):
        return Krylov(start, jnp, reorth=True, precision=precision, references=references)
    return JaxKrylov(placement, start, reorth=reorth, references=references)


class JaxKrylov:
    """Stands in for the core's `Krylov`; see there. Vectors are cut over the mesh of the operator's placement."""

    __slots__ = ("_alive", "_beta", "_blocks", "_placement", "_previous", "_references", "_scale", "_used", "current")
    drift, projected = 0.0, (0, 0.0, 1.0)  # nothing is kept coarsely; what a device does takes no time that shows here

    def __init__(self, placement: Placement, start: jax.Array, *, reorth: bool, references: Any = None) -> None:
        self._placement = placement
        self.current = start if placement.rows is None else jax.device_put(start, placement.rows)
        # On their device from the beginning: arrays that JAX may still move are another case to compile.
        self._previous = jnp.zeros(start.shape, dtype=start.dtype, device=placement.rows or placement.device)
        self._beta = jnp.zeros(start.shape[0], dtype=start.dtype, device=placement.device)
        self._references = jnp.zeros((0, start.shape[1]), dtype=start.dtype) if references is None else references
        self._blocks: list[jax.Array] | None = [] if reorth else None
        self._used, self._scale = _BLOCK, 1.0
        self._alive = np.arange(start.shape[0])

    @property
    def orthogonal(self) -> bool:
        """Whether new vectors are made orthogonal to all earlier ones."""
        return self._blocks is not None

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return what the recurrence goes on from, but for the past vectors, on the host."""
        return {
            "previous": np.asarray(self._previous),
            "current": np.asarray(self.current),
            "numbers": np.asarray(self._beta),
            "constants": np.array([self._scale]),
        }

    def restore(self, state: Mapping[str, npt.NDArray[Any]], stored: Iterable[npt.NDArray[Any]]) -> None:
        """Go on from what `state` gave, and past vectors as `stored` gives them; those of ended probes are zeros."""
        rows, device = self._placement.rows, self._placement.device
        self._previous, self.current = (jax.device_put(state[x], rows or device) for x in ("previous", "current"))
        self._beta = jax.device_put(state["numbers"], device)
        self._scale = float(state["constants"][0])
        for kept in stored if self._blocks is not None else ():
            whole = np.zeros(self.current.shape, dtype=kept.dtype)
            whole[self._alive] = kept
            self._append(jax.device_put(whole, rows or device))

    def stored(self, first: int) -> Iterator[npt.NDArray[Any]]:
        """Give past vectors of the active probes from the given number on."""
        for number in range(first, self.kept):
            block: Any = (self._blocks or ())[number // _BLOCK]
            yield np.asarray(block[:, number % _BLOCK, :])[self._alive]

    @property
    def kept(self) -> int:
        """Past vectors that are kept, per probe."""
        return _BLOCK * (len(self._blocks) - 1) + self._used if self._blocks else 0

    def combine(self, position: int, coefficients: Floats) -> jax.Array | None:
        """Return combinations of one probe's Krylov vectors as rows; None where past vectors are not kept."""
        if self._blocks is None:
            return None
        padded = np.zeros((coefficients.shape[0], _BLOCK * len(self._blocks)))
        padded[:, : coefficients.shape[1]] = coefficients
        dtype, total = self.current.dtype, None
        for block, part in zip(self._blocks, np.split(padded, len(self._blocks), axis=1), strict=True):
            term = _combination(block, int(self._alive[position]), jnp.asarray(part, dtype=dtype))
            total = term if total is None else total + term
        return total

    def drop_basis(self) -> None:
        """Free the past vectors."""
        self._blocks = None

    def images(self, product: Any) -> jax.Array:
        """Return A times the current vectors, as rows; of all probes, so that nothing is compiled anew for fewer."""
        images: jax.Array = product(self.current)
        return images if self._scale == 1.0 else images * self._scale

    def size(self, images: jax.Array) -> float:
        """Return the largest absolute entry."""
        return float(_largest(images))

    def rescale(self, images: jax.Array, factor: float) -> jax.Array:
        """Multiply these images and all that come by a factor."""
        self._scale = factor
        return images * factor

    def step(self, images: jax.Array) -> jax.Array:
        """Go on to the next vectors; return alpha, beta and overlaps with the references, shape (k, 2 + r)."""
        q = self.current
        w, alpha = _begin(images, q, self._previous, self._beta, accumulator=_accumulator())
        if self._blocks is not None:
            self._append(q)
            w, own = self._project_out(w)
            alpha = _add(alpha, own, self._used - 1)
            w, _ = self._project_out(w)
        table, self.current, self._beta = _end(w, q, alpha, self._references, placement=self._placement)
        self._previous = q
        return table if len(self._alive) == len(table) else table[self._alive]

    def keep(self, which: npt.NDArray[np.intp]) -> None:
        """Tell of these probes only from now on; the others go along, since other shapes would be compiled anew."""
        self._alive = self._alive[which]

    def asymmetry(self, images: jax.Array) -> float:
        """Estimate |A - A^T|_F / |A|_F, given A times the current random vectors; 0 for a single probe."""
        if images.shape[0] < 2:
            return 0.0
        found = to_host(_gram(self.current[:PAIRS], images[:PAIRS], accumulator=_accumulator()))
        return asymmetry_of(found[:, :-1], found[:, -1], images.shape[1])

    def _append(self, rows: jax.Array) -> None:
        blocks: Any = self._blocks
        if self._used == _BLOCK:
            cut, layout = self._placement.rows, self._placement.device
            if cut is not None:
                layout = NamedSharding(cut.mesh, PartitionSpec(None, None, *cut.spec[1:]))
            blocks.append(jnp.zeros((rows.shape[0], _BLOCK, rows.shape[1]), dtype=rows.dtype, device=layout))
            self._used = 0
        blocks[-1] = _stored(blocks[-1], rows, self._used)
        self._used += 1

    def _project_out(self, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        coefficients = rows
        for block in self._blocks or ():
            rows, coefficients = _swept(block, rows)
        return rows, coefficients


def _accumulator() -> Any:
    """Return the dtype of inner products. Passed to compiled functions, which must not remember another setting."""
    return np.dtype(np.float64 if x64_enabled() else np.float32)


def _dot(a: jax.Array, b: jax.Array, accumulator: Any) -> jax.Array:
    return jnp.sum(a * b, axis=-1, dtype=accumulator)


@jax.jit
def _largest(images: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(images))


@partial(jax.jit, static_argnames="accumulator")
def _begin(
    images: jax.Array, q: jax.Array, previous: jax.Array, beta: jax.Array, *, accumulator: Any
) -> tuple[jax.Array, jax.Array]:
    w = images - beta[:, None] * previous
    alpha = _dot(w, q, accumulator)
    return w - alpha.astype(q.dtype)[:, None] * q, alpha


@partial(jax.jit, donate_argnums=0)
def _stored(block: jax.Array, rows: jax.Array, where: Any) -> jax.Array:
    return block.at[:, where, :].set(rows)


@jax.jit
def _swept(block: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    coefficients = jnp.einsum("kmn,kn->km", block, rows, precision=_EXACT)
    return rows - jnp.einsum("km,kmn->kn", coefficients, block, precision=_EXACT), coefficients


@jax.jit
def _add(alpha: jax.Array, coefficients: jax.Array, where: Any) -> jax.Array:
    return alpha + coefficients[:, where].astype(alpha.dtype)


@partial(jax.jit, static_argnames="placement")
def _end(
    w: jax.Array, q: jax.Array, alpha: jax.Array, references: jax.Array, *, placement: Placement
) -> tuple[jax.Array, jax.Array, jax.Array]:
    beta = jnp.sqrt(_dot(w, w, alpha.dtype))
    overlaps = jnp.matmul(q, references.T, precision=_EXACT).astype(alpha.dtype)
    table = jnp.concatenate([alpha[:, None], beta[:, None], overlaps], axis=1)
    short = beta.astype(q.dtype)
    # Dividing by one instead of an exact zero; a tiny beta is caught on the host and its step cut off there.
    divisor = jnp.where(short > 0, short, jnp.ones_like(short))
    return table, placement.place(w / divisor[:, None]), short


@partial(jax.jit, static_argnames="accumulator")
def _gram(rows: jax.Array, images: jax.Array, *, accumulator: Any) -> jax.Array:
    gram = jnp.matmul(rows, images.T, precision=_EXACT).astype(accumulator)
    return jnp.concatenate([gram, jnp.sqrt(_dot(images, images, accumulator))[:, None]], axis=1)


@jax.jit
def _combination(block: jax.Array, probe: Any, coefficients: jax.Array) -> jax.Array:
    return jnp.matmul(coefficients, block[probe], precision=_EXACT)
