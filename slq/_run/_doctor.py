"""The operator's doctor: a dozen products that tell whether an object is the symmetric matrix it claims to be.

Nothing is estimated about the spectrum. Each failing item says what was seen and what usually causes it.

The measures: for random unit u, v the number u^T (A - A^T) v has the size |A - A^T|_F / n, and |A v| that of
|A|_F / sqrt(n); ratios below are scaled so that they compare whole matrices, not single numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from slq import _arrays, _doubts
from slq._arrays import Array, Floats
from slq._lanczos import _probes
from slq._lanczos._probes import Seed
from slq._operators._operators import Operator, as_symmetric

_WIDTHS = (1, 8, 32)
_REPEATS = 3
_TOO_SMALL = "Multiply the operator by a power of two, and divide the eigenvalues by the same."


@dataclass(frozen=True, slots=True)
class Finding:
    """One item of a diagnosis.

    Attributes
    ----------
    name : str
        What was tested.
    passed : bool
        Whether it is as it should be.
    seen : str
        What was measured.
    advice : str
        What usually causes a failure; empty where there is none.
    """

    name: str
    passed: bool
    seen: str
    advice: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Diagnosis:
    """What `slq.check` found. Prints as a table; true when every item passed.

    Attributes
    ----------
    findings : tuple of Finding
        The items in the order tested.
    noise : float
        Relative noise floor: the largest of asymmetry, non-repeatability and rounding. Eigenvalue structure below
        `noise` times the largest eigenvalue means nothing.
    seconds_per_column : dict of int to float
        Time per column for blocks of 1, 8 and 32 columns.
    batch : int
        The width with the cheapest column.
    products : int
        Columns multiplied for the diagnosis.
    """

    findings: tuple[Finding, ...]
    noise: float
    seconds_per_column: dict[int, float]
    batch: int
    products: int

    def __bool__(self) -> bool:
        """Whether every item passed."""
        return all(finding.passed for finding in self.findings)

    def __repr__(self) -> str:
        width = max(len(finding.name) for finding in self.findings)
        lines = []
        for finding in self.findings:
            lines.append(f"{'ok  ' if finding.passed else 'FAIL'}  {finding.name:<{width}}  {finding.seen}")
            if finding.advice:
                lines.append(f"      {'':<{width}}  {finding.advice}")
        if self.seconds_per_column:
            times = ", ".join(f"{1e3 * t:.3g} ms at {b}" for b, t in self.seconds_per_column.items())
            lines.append(f"      {'cost':<{width}}  per column {times} columns; batch={self.batch} is cheapest")
        return "\n".join(lines)


def check(A: Any, /, *, rng: Seed = 0) -> Diagnosis:
    """Test an operator: output, mutation of the input, finiteness, repeatability, linearity, symmetry, cost.

    Costs about 130 columns, most of them for timing blocks of 1, 8 and 32.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    rng : int, numpy.random.Generator or None, default 0
        Seed of the test vectors.

    Returns
    -------
    Diagnosis
        Print it; it is true when all is well.

    Raises
    ------
    TypeError, ValueError
        If `A` is nothing to multiply by.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> bool(slq.check(np.diag([1.0, 2.0, 3.0])))
    True
    >>> bool(slq.check(np.array([[1.0, 5.0], [0.0, 2.0]])))
    False
    """
    patient = _Patient(as_symmetric(A, shards=True), rng)
    findings = [patient.output()]
    if findings[0].passed:
        findings += [patient.mutation(), patient.finite()]
    if all(finding.passed for finding in findings):
        findings += [patient.repeats(), patient.linear(), patient.symmetric()]
        patient.time()
    seconds = patient.seconds
    batch = min(seconds, key=lambda width: seconds[width]) if seconds else 1
    return Diagnosis(tuple(findings), patient.noise, seconds, batch, patient.products)


class _Patient:
    """The operator under test, its test vectors u and v, and what was seen of it so far."""

    def __init__(self, operator: Operator, rng: Seed) -> None:
        self.operator, self._shards = operator, operator.shards.checked()
        self._seed = _probes.shared_seed(rng, self._shards)
        self._dtype = _arrays.working_dtype(operator.dtype, operator.xp)
        self._rounding = _arrays.epsilon(self._dtype)
        self._block = self._vectors(2)
        self._underflow = self._largest = 0.0
        self.noise, self.products, self._bad = self._rounding, 0, 0
        self.seconds: dict[int, float] = {}

    def output(self) -> Finding:
        """Test shape, dtype and device of a product."""
        try:
            image = self._multiply(self._block)
        except Exception as error:
            advice = "Try the product by hand on a random (n, 2) block; the message above comes from inside it."
            return Finding("output", False, f"the product raised {type(error).__name__}: {error}", advice)
        shape, wanted = tuple(getattr(image, "shape", ())), tuple(self._block.shape)
        if shape != wanted:
            advice = "A block (n, b) must give a block (n, b); a callable for single vectors must not set block=True."
            return Finding("output", False, f"shape {shape} for a block of shape {wanted}", advice)
        self._bad = int(np.sum(~np.isfinite(_arrays.to_host(image))))  # the first may be the only one
        self._largest = float(np.abs(_arrays.to_host(image)).max(initial=0.0)) if self._bad == 0 else 0.0
        name, device = _arrays.dtype_name(image.dtype), str(_arrays.device_of(image))
        good = name.startswith("float") and device == str(_arrays.device_of(self._block))
        advice = "" if good else f"Return real floats on {_arrays.device_of(self._block)}, as the input is."
        return Finding("output", good, f"{shape[0]} × {shape[1]}, {name}, {device}", advice)

    def mutation(self) -> Finding:
        """Test that the input comes back as it was."""
        before = _arrays.to_host(self._block).copy()
        self._multiply(self._block)
        (changed,) = self._shards.any(not np.array_equal(before, _arrays.to_host(self._block)))
        same = not changed
        advice = "" if same else "The product writes into its argument: copy it first, or avoid in-place operations."
        self._block = self._vectors(2)
        return Finding("input kept", same, "unchanged" if same else "changed by the product", advice)

    def finite(self) -> Finding:
        """Test for NaN and Inf."""
        first, again, size = self._shards.total(self._bad, np.sum(~np.isfinite(self._image())), self._largest)
        bad = int(max(first, again))
        self._underflow = _arrays.underflow(self.operator.n, float(size), self.operator.dtype)
        self.noise = max(self.noise, self._underflow)
        advice = (
            ""
            if bad == 0
            else ("Look for overflow in half precision, a division by zero or log of zero in the loss, empty memory.")
        )
        if bad == 0 and self._underflow > _doubts.suspicious(self._rounding, 0.0):
            return Finding("finite", False, f"subnormal numbers, relative rounding {self._underflow:.1g}", _TOO_SMALL)
        return Finding("finite", bad == 0, f"{bad} of {2 * self.operator.n} entries are NaN or Inf", advice)

    def repeats(self) -> Finding:
        """Test that the same product comes out the same."""
        one, two = self._image(), self._image()
        change = self._ratio(one - two, one)
        return self._judge(
            "repeats",
            change,
            "Usual causes: another mini-batch at every product (shuffle=True), "
            "dropout or BatchNorm in train mode, random augmentation, atomics on a GPU.",
        )

    def linear(self) -> Finding:
        """Test A (2 u - 3 v) = 2 A u - 3 A v."""
        u, v = self._block[:, 0], self._block[:, 1]
        combined = self._multiply(self.operator.xp.stack([2 * u - 3 * v, u], axis=1))
        whole, image = np.array(_arrays.to_host(combined)[:, 0]), self._image()
        parts = 2 * image[:, 0] - 3 * image[:, 1]
        off = self._ratio(whole - parts, parts)
        return self._judge(
            "linear",
            off,
            "Usual causes: a finite difference with too large a step, an added constant, "
            "clipping, a product that normalises its argument.",
        )

    def symmetric(self) -> Finding:
        """Test u^T A v = v^T A u."""
        block, image = _arrays.to_host(self._block), self._image()
        image = image / (self._size(image) or 1.0)
        *gram, squares = self._shards.reduce(np.stack([*(block.T @ image), np.sum(image**2, axis=0)]))
        size = float(np.sqrt(squares).mean()) or 1.0
        off = float(abs(gram[0][1] - gram[1][0]) * np.sqrt(self.operator.n) / size)
        return self._judge(
            "symmetric",
            off,
            "Usual causes: a wrong transpose, a graph with directions, a preconditioned "
            "matrix M^-1 A (use M^-1/2 A M^-1/2). slq needs A = A^T.",
        )

    def time(self) -> None:
        """Time blocks of several widths; the first product of a width is not counted."""
        for width in _WIDTHS:
            block = self._vectors(width)
            times = []
            for _ in range(_REPEATS):
                began = perf_counter()
                _arrays.to_host(self._multiply(block)[:1, :])  # the copy waits for a GPU
                times.append(perf_counter() - began)
            self.seconds[width] = float(self._shards.mean(float(np.median(times[1:])))[0]) / width

    def _judge(self, name: str, off: float, advice: str) -> Finding:
        """Pass what is below the square root of a rounding, and let it raise the noise floor."""
        limit = _doubts.suspicious(self._rounding, self.operator.noise, self._underflow)
        self.noise = max(self.noise, off)
        return Finding(name, off <= limit, f"relative difference {off:.1e}", "" if off <= limit else advice)

    def _ratio(self, difference: Floats, whole: Floats) -> float:
        """Return the ratio of two norms, of numbers of any size; the second counts as 1 where it is zero."""
        unit = self._size(whole) or 1.0
        change, size = self._shards.total(np.sum((difference / unit) ** 2), np.sum((whole / unit) ** 2))
        return float(np.sqrt(change / (size or 1.0)))

    def _size(self, block: Floats) -> float:
        """Return the largest magnitude; of several shards the sum of each one's, which is near enough."""
        return float(self._shards.total(float(np.abs(block).max(initial=0.0)))[0])

    def _image(self) -> Floats:
        return np.array(_arrays.to_host(self._multiply(self._block)))  # the next may come in the same memory

    def _multiply(self, block: Array) -> Array:
        self.products += block.shape[1]
        return self.operator.product(_arrays.cast(block, self.operator.dtype, self.operator.xp))

    def _vectors(self, width: int) -> Array:
        rows = _probes.probes(self.operator.n, range(width), seed=self._seed, shards=self._shards)
        return _arrays.from_host(rows, self.operator.xp, dtype=self._dtype, device=self.operator.device).T
