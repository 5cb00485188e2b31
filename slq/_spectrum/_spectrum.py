"""The result of a run: a few kilobytes of Lanczos coefficients that answer every question about the spectrum.

`Spectrum` holds what the products gave and derives the rest; its methods hand over to the modules that know how:
`_measure` and `_bounds` (distribution), `_density`, `_questions`, `_thermal` and `_extremes` (traces and what follows
from them), `_budget` (errors), `_store` (files).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats
from slq._estimates import Band, Claim, Estimate
from slq._files import _store
from slq._files._contents import require_run
from slq._kernels._entries import Traces, shifted_traces
from slq._lanczos._probes import Law
from slq._lanczos._tridiagonal import Tridiagonal, concatenate
from slq._quadrature import _budget, _density, _distribution, _outliers
from slq._quadrature._budget import ErrorBudget
from slq._quadrature._coordinate import Coordinate, Scale, natural
from slq._quadrature._distribution import Question
from slq._quadrature._interpretation import Facts, Interpretation, interpret, shortened
from slq._quadrature._measure import Measure
from slq._quadrature._outliers import Outliers, Resolved
from slq._quadrature._quadrature import eigen_tridiagonal
from slq._spectrum import _extremes, _questions, _summary, _thermal, _views

# Ritz vectors this exact, relative to the gap, are projected out: what is left of them is the square of it.
_SHARP = 1e-4


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Spectrum:
    """The spectrum of a symmetric operator, estimated from Lanczos runs of random start vectors.

    Made by `slq.spectrum` and `slq.load`. All arrays are read-only float64 on the host.

    Attributes
    ----------
    alpha, beta : ndarray, shape (probes, steps)
        Lanczos coefficients; zero beyond a probe's length. `beta[:, j]` couples steps j and j + 1.
    lengths : ndarray of int, shape (probes,)
        Steps of each probe.
    overlaps : ndarray, shape (probes, steps, references)
        Inner products of Krylov vectors with the first start vectors of their group.
    groups : ndarray of int, shape (probes,)
        Which probes were run with the same first start vectors.
    n : int
        Dimension of the operator.
    kind : {"sphere", "rademacher", "exact"}
        Law of the start vectors.
    seed : int
        Key of the random streams: the same seed gives the same probes on every backend.
    reorth : {"full", "none"}
        Whether orthogonality was enforced. Without it every claim is an estimate.
    noise : float
        Measured noise floor of eigenvalues: rounding, asymmetry, products that do not repeat.
    products : int
        Columns multiplied in all.
    seconds : float
        Wall time in all.
    status : str
        Why the run ended, in words.
    warnings : tuple of str
        What deserves a look.
    metadata : Mapping
        Facts about operator, dtype and device; JSON-able.
    confidence : float
        Of every interval, 0.95 by default.
    deflated : ndarray, shape (d,)
        Eigenvalues whose eigenvectors were projected out for some of the probes.
    projected : ndarray of bool, shape (probes,)
        For which.
    drift : float
        How far the run is from an exact one in its vectors, in units of the eigenvalues: zero unless past Krylov
        vectors are kept in a shorter precision (`basis`). Bounds what multiplicities may be concluded from.
    traces : tuple of float, optional
        tr A and tr A^2 where they are known exactly, as of stored matrices: control variates of all other traces.
    copies : int
        Real dimensions of each eigenvalue in the space of the probes: 2 for a complex Hermitian operator, whose run is
        that of its real form. Everything else is told of the operator itself.
    nodes, weights, residuals : ndarray, shape (probes, steps)
        Gauss rules: nodes ascend in each row, weights sum to one, an eigenvalue lies within the residual of each node.
        Rows of probes that ended early repeat their last node with weight zero.
    """

    alpha: Floats
    beta: Floats
    lengths: npt.NDArray[np.intp]
    overlaps: Floats
    groups: npt.NDArray[np.intp]
    n: int
    kind: Law
    seed: int
    reorth: Literal["full", "none"]
    noise: float
    products: int
    seconds: float
    status: str
    warnings: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    confidence: float = 0.95
    deflated: Floats = field(default_factory=lambda: np.zeros(0))
    projected: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    drift: float = 0.0
    traces: Traces | None = None
    copies: int = 1
    nodes: Floats = field(init=False)
    weights: Floats = field(init=False)
    residuals: Floats = field(init=False)
    _meaning: Interpretation = field(init=False)

    def __post_init__(self) -> None:
        if self.projected.size == 0:
            object.__setattr__(self, "projected", np.zeros(self.probes, dtype=bool))
        if self.traces is not None:  # a list, from a file
            object.__setattr__(self, "traces", (float(self.traces[0]), float(self.traces[1])))
        meaning = interpret(self._tridiagonal, self._facts)
        for name in ("nodes", "weights", "residuals"):
            object.__setattr__(self, name, getattr(meaning.rule, name))
        object.__setattr__(self, "_meaning", meaning)
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, np.ndarray):
                value.flags.writeable = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_of, ({item.name: getattr(self, item.name) for item in fields(self) if item.init},)

    def __repr__(self) -> str:
        return _summary.text(self)

    def __eq__(self, other: object) -> bool:
        """Compare coefficients and settings, not times."""
        if not isinstance(other, Spectrum):
            return NotImplemented
        same = all(np.array_equal(getattr(self, name), getattr(other, name)) for name in ("alpha", "beta", "overlaps"))
        return same and (self.n, self.seed, self.kind, self.reorth) == (other.n, other.seed, other.kind, other.reorth)

    __hash__ = None  # type: ignore[assignment]

    # -- where the eigenvalues are ------------------------------------------------------------------------------

    @property
    def probes(self) -> int:
        """Number of start vectors."""
        return len(self.alpha)

    @property
    def steps(self) -> int:
        """Lanczos steps of the longest probe."""
        return int(self.alpha.shape[1])

    @property
    def certified(self) -> bool:
        """Whether bounds hold as theorems.

        Orthogonality was enforced, the operator is symmetric and repeats, and no isolated eigenvalue was taken for
        simple because one probe cannot tell.
        """
        return self.reorth == "full" and not self.warnings and not self.assumes_simple

    @property
    def assumes_simple(self) -> bool:
        """Whether isolated eigenvalues are counted once without proof: the run has one probe."""
        resolved = self._meaning.resolved
        return bool(not resolved.verified and self.n > 1 and resolved.known.any())

    @property
    def edges(self) -> tuple[float, float]:
        """Numbers (low, high) between which all eigenvalues lie, with probability well above `confidence`."""
        return self._measure.edges

    @property
    def outliers(self) -> Outliers:
        """Eigenvalues that were resolved one by one and stand apart from the rest, largest magnitude first."""
        return _outliers.table(self._resolved, self._alone, self._meaning.shares, self.n)

    @property
    def unresolved_outliers(self) -> int:
        """Number of Gauss nodes that stand apart from the rest but have not converged to an eigenvalue yet."""
        first = self._measure.probes[0]
        y = self.coordinate().forward(first.nodes)
        return _outliers.unresolved(first.nodes, first.weights, y, self._resolved)

    @property
    def error(self) -> ErrorBudget:
        """How far the estimated distribution can be from the true one, by origin; see `ErrorBudget`."""
        shorter = [self._shorter(share) for share in _budget.CUTS]
        return _budget.budget_of(
            self._measure, shorter, self.coordinate(), noise=self.noise, confidence=self.confidence
        )

    def coordinate(self, scale: Scale | Literal["auto"] | Coordinate = "auto") -> Coordinate:
        """Return the coordinate for pictures and tolerances: "auto" takes asinh where far outliers squeeze the bulk.

        The coordinate of another spectrum stays as it is, so that both can be shown in it.
        """
        return scale if isinstance(scale, Coordinate) else natural(self.nodes, self.weights, scale)

    # -- distribution -------------------------------------------------------------------------------------------

    def cdf(self, x: npt.ArrayLike, /, *, claim: Claim = "certified") -> Band:
        """Return the share of eigenvalues at or below x, with a band that holds everywhere at once.

        The band is the bracket of every probe (what the steps leave open) widened by the Kolmogorov law of sphere
        probes (what the sampling leaves open).

        Parameters
        ----------
        x : array_like, shape (points,)
            Where to evaluate, in any order.
        claim : {"certified", "estimate"}, default "certified"
            Whether to bound what the steps leave open, for the worst spectrum that fits, or to estimate it by a tenth
            of that bound and by the change in the last quarter of the steps. The estimate is several times narrower;
            it held as often as it says on every spectrum tried, but it is no theorem.

        Returns
        -------
        Band
            `x`, `value`, `low`, `high` in the order given.
        """
        return _distribution.cdf(self._question(claim), np.atleast_1d(np.asarray(x, dtype=np.float64)))

    def quantile(self, q: npt.ArrayLike, /, *, claim: Claim = "certified") -> Band:
        """Return the smallest eigenvalue that at least a share q of the eigenvalues does not exceed.

        Parameters
        ----------
        q : array_like, shape (points,)
            Shares strictly between 0 and 1.
        claim : {"certified", "estimate"}, default "certified"
            As for `cdf`.

        Returns
        -------
        Band
            With `x` holding q, and `value`, `low`, `high` eigenvalues. The band is that of `cdf`, inverted.
        """
        return _distribution.quantile(self._question(claim), np.atleast_1d(np.asarray(q, dtype=np.float64)))

    def count(self, a: float, b: float, /, *, claim: Claim = "certified") -> Estimate:
        """Return the number of eigenvalues in (a, b].

        Resolved eigenvalues count exactly. For the others the interval inverts the Beta law of a probe's mass between
        the bounds that the steps leave, or their estimate; see `cdf` for `claim`. Use -inf and inf for open ends.
        """
        return _distribution.count(self._question(claim), float(a), float(b))

    density = _views.density

    def resolution(self, x: npt.ArrayLike, /) -> Floats:
        """Return the local distance of neighbouring nodes: structure finer than this is not resolved."""
        return _density.resolution(self._measure, np.atleast_1d(np.asarray(x, dtype=np.float64)))

    # -- traces, norms, ensembles, ends -------------------------------------------------------------------------------

    # Each is a function of the module named, which holds its docstring; all take the run as it is.
    trace = _questions.trace
    logdet = _questions.logdet
    trace_inverse = _questions.trace_inverse
    effective_dimension = _questions.effective_dimension
    moment = _questions.moment
    schatten_norm = _questions.schatten_norm
    nuclear_norm = _questions.nuclear_norm
    frobenius_norm = _questions.frobenius_norm
    estrada_index = _thermal.estrada_index
    log_sum_exp = _thermal.log_sum_exp
    heat_trace = _thermal.heat_trace
    free_energy = _thermal.free_energy
    heat_capacity = _thermal.heat_capacity
    von_neumann_entropy = _thermal.von_neumann_entropy
    condition_number = _extremes.condition_number
    rank = _extremes.rank
    negative_count = _extremes.negative_count
    negative_mass = _extremes.negative_mass

    # -- more of it ---------------------------------------------------------------------------------------------

    def shifted(self, shift: float) -> Spectrum:
        """Return the spectrum of A + shift I, without any product: the Krylov spaces are the same."""
        inside = np.arange(self.steps) < self.lengths[:, None]
        return self._with(
            alpha=np.where(inside, self.alpha + shift, 0.0),
            deflated=self.deflated + shift,
            traces=None if self.traces is None else shifted_traces(self.traces, shift, self.n),
            metadata={**self.metadata, "shift": self.metadata.get("shift", 0.0) + shift},
        )

    def extend(self, A: Any, /, *, probes: int | None = None, steps: int | None = None, **options: Any) -> Spectrum:
        """Return the spectrum with more probes, more steps, or both, of the same operator.

        More probes cost their own products only. More steps need the Krylov vectors again, which are not kept: the run
        is repeated from the same probes.

        Parameters
        ----------
        A : operator
            The operator that was run.
        probes, steps : int, optional
            How many there shall be in all.
        **options
            `memory`, `max_products`, `progress`, `callback` as for `slq.spectrum`.

        Returns
        -------
        Spectrum
            Products and seconds count everything so far.

        Raises
        ------
        ValueError
            If fewer are asked for than there are, `A` has another dimension, or this is a merged spectrum.
        """
        from slq._run import _driver

        return _driver.extend(self, A, probes=probes, steps=steps, **options)

    def merge(self, other: Spectrum, /) -> Spectrum:
        """Return the spectrum from the probes of both runs of the same operator.

        Raises
        ------
        ValueError
            If the runs are of different dimension or probe law, or share a seed and hence probes.
        """
        for name in ("n", "kind", "copies"):
            if getattr(self, name) != getattr(other, name):
                msg = f"`other` has {name} = {getattr(other, name)}, this spectrum {getattr(self, name)}."
                raise ValueError(msg)
        if self.deflated.size or other.deflated.size:
            msg = 'a run with deflated probes cannot be merged. Run it with deflate="none".'
            raise ValueError(msg)
        if self.seed == other.seed:
            msg = f"both runs have seed {self.seed}, hence the same probes. Run one of them with another `rng`."
            raise ValueError(msg)
        T = concatenate([self._tridiagonal, other._tridiagonal])
        return self._with(
            alpha=T.alpha,
            beta=T.beta,
            lengths=T.lengths,
            overlaps=T.overlaps,
            groups=np.concatenate([self.groups, other.groups + self.groups.max() + 1]),
            deflated=self.deflated,
            projected=np.concatenate([self.projected, other.projected]),
            reorth="full" if self.reorth == other.reorth == "full" else "none",
            noise=max(self.noise, other.noise),
            drift=max(self.drift, other.drift),
            traces=self.traces if self.traces == other.traces else None,
            products=self.products + other.products,
            seconds=self.seconds + other.seconds,
            status=f"merged: {self.status}; {other.status}",
            warnings=tuple(dict.fromkeys(self.warnings + other.warnings)),
        )

    def distance(self, other: Spectrum, metric: Literal["wasserstein", "kolmogorov"] = "wasserstein", /) -> Estimate:
        """Return the distance of two estimated distributions of eigenvalues, with its interval.

        "wasserstein" is the integral of ``|F - G|`` over x, in units of the eigenvalues; "kolmogorov" its maximum. The
        interval follows from the two bands, each at half the risk, by the triangle inequality. The two operators may
        be of different dimension: shares of eigenvalues are compared.
        """
        if not isinstance(other, Spectrum):
            msg = f"`other` must be a Spectrum, got {type(other).__name__}. Run slq.spectrum or slq.load first."
            raise TypeError(msg)
        half = (1 + self.confidence) / 2
        one, two = (replace(s._question("certified"), confidence=half) for s in (self, other))
        return replace(_distribution.distance(one, two, metric), confidence=self.confidence)

    def save(self, path: str | Path, /) -> Path:
        """Write the run to one .npz file (no pickle, metadata as JSON, atomically) and return its path."""
        return _store.write(Path(path), *self._parts())

    def plot(self, ax: Any = None, **style: Any) -> Any:
        """Draw the density on matplotlib axes and return them; see `slq.plot.density`."""
        from slq import plot

        return plot.density(self, ax=ax, **style)

    # -- inside -------------------------------------------------------------------------------------------------

    @property
    def _tridiagonal(self) -> Tridiagonal:
        return Tridiagonal(self.alpha, self.beta, self.lengths, self.overlaps)

    @property
    def _facts(self) -> Facts:
        return Facts(
            self.n,
            self.kind,
            self.reorth == "full",
            self.noise,
            self.drift,
            self.groups,
            self.deflated,
            self.projected,
            self.confidence,
            self.copies,
        )

    def _parts(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Return what makes up this spectrum: arrays, and facts that can be written as JSON."""
        arrays = {name: getattr(self, name) for name in _store.ARRAYS}
        names = [item.name for item in fields(self) if item.init and item.name not in arrays]
        return arrays, {name: getattr(self, name) for name in names}

    def _shorter(self, share: float = 0.75) -> Measure:
        """Return the measure from a share of the steps, to see how much the others changed."""
        return interpret(shortened(self._tridiagonal, self.projected, share), self._facts).measure

    def _question(self, claim: Claim) -> Question:
        if claim not in ("certified", "estimate"):
            msg = f"`claim` must be 'certified' or 'estimate', got {claim!r}."
            raise ValueError(msg)
        shorter = self._shorter() if claim == "estimate" else None
        made: Claim = claim if self.certified else "estimate"
        return Question(self._measure, shorter, self.coordinate(), self.confidence, made)

    @property
    def _alone(self) -> npt.NDArray[np.intp]:
        first = self._measure.probes[0]
        return _outliers.standing_alone(self._resolved, first.nodes, first.weights)

    @property
    def _measure(self) -> Measure:
        return self._meaning.measure

    @property
    def _resolved(self) -> Resolved:
        return self._meaning.resolved

    def _simple_ritz_vectors(self, most: int) -> tuple[Floats, Floats]:
        """Return resolved simple eigenvalues, at most so many, largest magnitude first, and their Ritz vectors.

        As coefficients of probe 0's Krylov vectors, shape (d, steps). None where multiplicities were not verified.
        """
        r, length = self._resolved, self.lengths[0]
        sharp = r.residuals + self.drift <= _SHARP * r.gaps
        chosen = np.flatnonzero((r.multiplicities == 1) & sharp) if r.verified else np.zeros(0, dtype=np.intp)
        chosen = chosen[np.argsort(-np.abs(r.values[chosen]), kind="stable")][:most]
        vectors = eigen_tridiagonal(self.alpha[0, :length], self.beta[0, : length - 1])[1]
        return r.values[chosen], vectors[:, r.nodes[chosen, 0]].T

    def _with(self, **changes: Any) -> Spectrum:
        return replace(self, **changes)


def _made_of(parts: dict[str, Any]) -> Spectrum:
    """Make the spectrum again that was pickled; arrays of a pickle could be written to."""
    return Spectrum(**parts)


def load(path: str | Path, /) -> Spectrum:
    """Read a `Spectrum` written by `Spectrum.save`.

    Parameters
    ----------
    path : str or Path
        The .npz file.

    Returns
    -------
    Spectrum
        Equal to the one that was saved.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, no slq result, of a newer format, or contradicts itself; the message says which.

    Examples
    --------
    >>> import tempfile
    >>> import slq
    >>> s = slq.spectrum(slq.gallery.semicircle(100)[0], probes=2, steps=10, rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     slq.load(s.save(f"{folder}/run.npz")) == s
    True
    """
    with _store.read(Path(path)) as (arrays, facts):
        require_run(Path(path), arrays, facts)
        return Spectrum(**arrays, **facts)
