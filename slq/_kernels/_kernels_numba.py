"""The two passes over memory of a fused Lanczos step, compiled by numba for one number of probes at a time.

First w <- s A x - c w and the sums of w x, then w <- w - f x and the sums of w w; s, c and f hold one factor per probe.
Blocks are (n, k), row-major: one matrix entry multiplies k neighbouring numbers. Sums are taken in float64 over blocks
of `BLOCK` rows, so they depend neither on the number of threads nor on the dtype of the vectors. Functions release the
GIL and work on the row blocks [first, last): `_threads` calls them in parallel. Compiled code is kept on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba

from slq._kernels._simd import add_product, folded, load, prefetch, spread, store, times, widened, zeros

Kernel = Callable[..., None]

# Rows whose dot products are summed straight away; their sums are added pairwise.
BLOCK = 1024
# Numbers that one vector is handled by at a time; a power of two.
LANES = 16
# So many entries ahead, rows of x are asked for: random columns otherwise wait for memory one by one.
_AHEAD = 16

# Numbers of rows and entries are unsigned where arrays are read: signed ones are tested for being negative each time.
_at = numba.uint64
_compiled = numba.njit(nogil=True, cache=True, boundscheck=False, error_model="numpy", fastmath={"contract"})


@cache
def csr_product(width: int, scattered: bool) -> Kernel:
    """Return the first pass for a CSR matrix; `scattered` columns are fetched ahead."""
    if width == 1:
        return _csr_product_of_one

    @_compiled
    def kernel(
        first: int, last: int, data: Any, indices: Any, indptr: Any, x: Any, w: Any, factors: Any, sums: Any
    ) -> None:
        nothing, none = zeros(x, width), zeros(sums, width)
        scale, back = load(factors, 0, nothing), load(factors, 1, nothing)
        end = indices.shape[0] - 1
        for block in range(first, last):
            total = none
            for i in range(block * BLOCK, min((block + 1) * BLOCK, x.shape[0])):
                image = nothing
                for p in range(indptr[i], indptr[i + 1]):
                    if scattered:
                        prefetch(x, indices[_at(min(p + _AHEAD, end))])
                    image = add_product(image, data[_at(p)], load(x, indices[_at(p)], nothing))
                image = add_product(times(scale, image), back, load(w, i, nothing))
                store(w, i, image)
                total = add_product(total, widened(image), widened(load(x, i, nothing)))
            store(sums, block, total)

    return kernel


@_compiled
def _csr_product_of_one(
    first: int, last: int, data: Any, indices: Any, indptr: Any, x: Any, w: Any, factors: Any, sums: Any
) -> None:
    """Make the first pass for a single vector; two sums in turn halve the chain of additions."""
    scale, back = factors[0, 0], factors[1, 0]
    for block in range(first, last):
        begin, total = block * BLOCK, 0.0
        p = indptr[begin]
        for i in range(begin, min(begin + BLOCK, x.shape[0])):
            end, even, odd = indptr[_at(i + 1)], x.dtype.type(0), x.dtype.type(0)
            while p + 1 < end:
                even += data[_at(p)] * x[_at(indices[_at(p)]), 0]
                odd += data[_at(p + 1)] * x[_at(indices[_at(p + 1)]), 0]
                p += 2
            if p < end:
                even += data[_at(p)] * x[_at(indices[_at(p)]), 0]
                p += 1
            image = scale * (even + odd) + back * w[_at(i), 0]
            w[_at(i), 0] = image
            total += numba.float64(image) * numba.float64(x[_at(i), 0])
        sums[block, 0] = total


# A function of the module, not of the closure: compiled code is found again only if what the closure holds is plain.
@_compiled
def _stencil(i: int, begin: int, end: int, weights: Any, steps: Any, x: Any, here: Any) -> Any:
    """Return the Laplacian at point i of a line [begin, end); `here` is x there, of one point or of many."""
    image = times(weights[0], here)
    for j in range(4):
        image = add_product(image, weights[1 + j], load(x, i + steps[j], here))
    if i > begin:
        image = add_product(image, -1.0, load(x, i - 1, here))
    if i < end - 1:
        image = add_product(image, -1.0, load(x, i + 1, here))
    return image


@cache
def grid_product(width: int) -> Kernel:
    """Return the first pass for the Laplacian of an (nx, ny, nz) grid: `diagonal` minus the sum of the neighbours.

    Where probes are few, several points of a line are taken at once, away from its ends.
    """
    points = 1 << max(0, (LANES // width).bit_length() - 1)
    lanes = points * width

    @_compiled
    def kernel(first: int, last: int, sides: Any, diagonal: Any, x: Any, w: Any, factors: Any, sums: Any) -> None:
        one, many, none = zeros(x, width), zeros(x, lanes), zeros(sums, width)
        scale, back = load(factors, 0, one), load(factors, 1, one)
        nx, ny, nz = sides
        for block in range(first, last):
            total, totals = none, zeros(sums, lanes)
            i, stop = block * BLOCK, min((block + 1) * BLOCK, x.shape[0])
            while i < stop:
                line = i // nz
                begin, end, ix, iy = line * nz, (line + 1) * nz, line // ny, line % ny
                # Outside of the grid a neighbour has no weight, and the point itself stands in for it.
                inside = (ix > 0, ix < nx - 1, iy > 0, iy < ny - 1)
                weights = (diagonal, -1.0 * inside[0], -1.0 * inside[1], -1.0 * inside[2], -1.0 * inside[3])
                steps = (-inside[0] * ny * nz, inside[1] * ny * nz, -inside[2] * nz, inside[3] * nz)
                while i < min(end, stop):
                    if points > 1 and begin < i and i + points < min(end, stop):
                        here = load(x, i, many)
                        image = _stencil(i, begin, end, weights, steps, x, here)
                        image = add_product(times(spread(scale, many), image), spread(back, many), load(w, i, many))
                        store(w, i, image)
                        totals = add_product(totals, widened(image), widened(here))
                        i += points
                    else:
                        own = load(x, i, one)
                        result = _stencil(i, begin, end, weights, steps, x, own)
                        result = add_product(times(scale, result), back, load(w, i, one))
                        store(w, i, result)
                        total = add_product(total, widened(result), widened(own))
                        i += 1
            store(sums, block, add_product(total, 1.0, folded(totals, none)))

    return kernel


@cache
def orthogonalise(width: int, count: int) -> Kernel:
    """Return the second pass, with `count` references."""
    each = 1 + count

    @_compiled
    def kernel(first: int, last: int, x: Any, w: Any, factors: Any, references: Any, sums: Any) -> None:
        nothing, none = zeros(x, width), zeros(sums, width)
        factor = load(factors, 0, nothing)
        for block in range(first, last):
            total = none
            for i in range(block * BLOCK, min((block + 1) * BLOCK, x.shape[0])):
                here = load(x, i, nothing)
                rest = add_product(load(w, i, nothing), factor, here)
                store(w, i, rest)
                total = add_product(total, widened(rest), widened(rest))
                for j in range(count):
                    at = block * each + 1 + j
                    store(sums, at, add_product(load(sums, at, none), references[i, j], widened(here)))
            store(sums, block * each, total)

    return kernel
