"""The density of a Spectrum in every form: adaptive, and the classical ones that published pictures were drawn by.

`density` is a method of `Spectrum`, which is why its first argument is called `self`; `local_density` takes the
Lanczos runs of chosen start vectors instead.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats
from slq._lanczos._tridiagonal import Tridiagonal
from slq._quadrature import _classical, _density, _smoothing
from slq._quadrature._classical import Picture
from slq._quadrature._coordinate import Coordinate, Scale
from slq._quadrature._density import Density, Stems
from slq._quadrature._log_density import log_density
from slq._quadrature._measure import Measure
from slq._quadrature._quadrature import gauss
from slq._quadrature._rules import Nodes, Rules
from slq._quadrature._smoothing import Damping, Reference, WidthRule

if TYPE_CHECKING:
    from slq._spectrum._spectrum import Spectrum

DensityKind = Literal["adaptive", "gaussian", "kpm", "haydock", "lanczos-bins", "log"]
LocalKind = Literal["kpm", "gaussian", "haydock"]

_POINTS = 1000
# What is drawn reaches so many widths beyond the outermost nodes, or this share of their distance.
_WIDTHS, _MARGIN = 4.0, 0.05
# A polynomial's interval ends so far beyond the outermost nodes, as a share of their distance.
_BEYOND = 0.01
_BINS = 50
# Of the band of a local density, in which nothing is random.
_CONFIDENCE = 0.95


def density(
    self: Spectrum,
    x: npt.ArrayLike | None = None,
    *,
    kind: DensityKind = "adaptive",
    width: float | WidthRule | None = None,
    scale: Scale | Coordinate = "linear",
    reference: Reference = "chebyshev",
    damping: Damping = "jackson",
    terminator: bool = False,
) -> Density:
    """Return the smoothed density of eigenvalues; no form of it costs a product.

    Parameters
    ----------
    self : Spectrum
        The run.
    x : array_like, shape (points,), optional
        Ascending points. By default 1000 points over the spectrum, evenly spaced in the chosen scale.
    kind : {"adaptive", "gaussian", "kpm", "haydock", "lanczos-bins", "log"}, default "adaptive"
        "adaptive": Gaussians as wide as the surroundings of each node are resolved; eigenvalues that stand alone are
        stems. All others set nothing apart. "gaussian": one width for all nodes. "kpm": kernel polynomial method, with
        the moments up to twice the steps that the run determines. "haydock": Lorentzians, the continued fraction.
        "lanczos-bins": a histogram whose bars are differences of the distribution function. "log": per unit of
        ln ``|eigenvalue|``, both signs folded.
    width : float or {"ghorbani", "papyan", "lin-saad-yang"}, optional
        Standard deviation of Gaussians (in the unit of the scale), half-width at half maximum of Lorentzians, width of
        bars; with "kpm" the degree is lowered to have about this standard deviation. The names are rules for
        "gaussian", whose default is "lin-saad-yang": variance 1e-5 max(1, range); or
        range / ((steps - 1) sqrt(8 ln kappa)) with kappa = 3 on the range widened by 5 % at either end ("papyan"), and
        kappa = 1.25 on the range. By default Lorentzians are as wide as the range over the steps, and 50 bars cover it.
    scale : {"linear", "asinh"} or Coordinate, default "linear"
        Density per unit of x, or of asinh(x / s); see `coordinate`. With the coordinate of another spectrum both
        are smoothed alike. "kpm", "haydock" and "log" have their own.
    reference : {"chebyshev", "semicircle", "uniform"}, default "chebyshev"
        With "kpm", the measure whose orthogonal polynomials are used: 1/sqrt(1 - t**2), sqrt(1 - t**2) or 1.
    damping : {"jackson", "gaussian", "none"}, default "jackson"
        With "kpm": Jackson's factors, or the expansion of Gaussians of the given width, with reference="uniform" the
        delta-Gauss-Legendre method, or all moments as they are: with "chebyshev" a Fourier series in the angle
        arccos x, as in Lanczos's spectroscopic method. Only Jackson's with "chebyshev" is never negative.
    terminator : bool, default False
        With "haydock": continue the fraction with its last coefficients for ever, for a spectrum of one band.

    Returns
    -------
    Density
        Curve, band, local width and resolution, stems.

    Raises
    ------
    ValueError
        If an argument is out of range or does not go with `kind`, or `x` does not ascend.
    """
    _require_choices(kind, DensityKind, reference, damping)
    size = None if isinstance(width, str) else width
    if isinstance(width, str) and (kind != "gaussian" or width not in get_args(WidthRule)):
        names = ", ".join(map(repr, get_args(WidthRule)))
        msg = f"`width` must be a positive number, or with kind='gaussian' one of {names}; got {width!r}."
        raise ValueError(msg)
    _require_positive(size)
    points = None if x is None else _ascending(x)
    if kind == "adaptive":
        return _adaptive(self, points, size, self.coordinate(scale))
    measure, shorter = self._measure, self._shorter()
    if kind == "log":
        if points is not None and np.any(points <= 0):
            msg = "`x` must be positive with kind='log': it holds magnitudes."
            raise ValueError(msg)
        return log_density(measure, shorter, points, width=size, noise=self.noise, confidence=self.confidence)
    coordinate = self.coordinate(scale) if kind in ("gaussian", "lanczos-bins") else self.coordinate("linear")
    picture = Picture(
        _raw(self, measure),
        _raw(self, shorter),
        np.full(len(measure.probes), 1 / len(measure.probes)),
        np.inf if measure.n_rest == 0 else self.copies * self.n + 2.0,
        self.confidence,
    )
    if kind == "lanczos-bins":
        first, last = coordinate.forward(np.array(picture.ends))
        bar = size or (last - first) / _BINS or 1.0
        points = _grid(picture, coordinate, bar) if points is None else points
        curves = partial(measure.cdf, coordinate=coordinate), partial(shorter.cdf, coordinate=coordinate)
        return _classical.histogram(picture, *curves, coordinate, points, bar)
    rule: WidthRule = width if isinstance(width, str) else "lin-saad-yang"
    return _by_kernel(picture, self._tridiagonal, coordinate, points, kind, size, rule, reference, damping, terminator)


def local_density(
    T: Tridiagonal,
    x: npt.ArrayLike | None = None,
    /,
    *,
    weights: npt.ArrayLike | None = None,
    kind: LocalKind = "kpm",
    width: float | None = None,
    reference: Reference = "chebyshev",
    damping: Damping = "jackson",
    terminator: bool = False,
) -> Density:
    """Return the local density of states of chosen start vectors: eigenvalues weighted by ``(u^T v)**2``.

    Nothing is random here: the band tells what the steps leave open, by the change since three quarters of them. With
    unit vectors of sites, orbitals or nodes as start vectors it is the density that these see; with all n unit vectors
    and equal weights, that of all eigenvalues.

    Parameters
    ----------
    T : Tridiagonal
        From `slq.lanczos` with the start vectors.
    x : array_like, shape (points,), optional
        Ascending points; by default 1000 over the spectrum.
    weights : array_like, shape (k,), optional
        Of the start vectors, not negative; normalised to sum one. Equal by default.
    kind : {"kpm", "gaussian", "haydock"}, default "kpm"
        As for `Spectrum.density`.
    width : float, optional
        As for `Spectrum.density`.
    reference : {"chebyshev", "semicircle", "uniform"}, default "chebyshev"
        As for `Spectrum.density`.
    damping : {"jackson", "gaussian", "none"}, default "jackson"
        As for `Spectrum.density`.
    terminator : bool, default False
        As for `Spectrum.density`.

    Returns
    -------
    Density
        Of mass one.

    Raises
    ------
    ValueError
        If an argument is out of range or `weights` does not fit the start vectors.

    References
    ----------
    Haydock, Heine & Kelly 1972, doi:10.1088/0022-3719/5/20/004.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> chain, _ = slq.gallery.laplacian_1d(200)
    >>> end = np.eye(200)[:, 0]
    >>> d = slq.local_density(slq.lanczos(chain, end, 40))
    >>> round(float(np.trapezoid(d.value, d.x)), 2)
    1.0
    """
    _require_choices(kind, LocalKind, reference, damping)
    _require_positive(width)
    k = len(T.lengths)
    shares = np.full(k, 1 / k) if weights is None else np.array(weights, dtype=np.float64, ndmin=1)
    if shares.shape != (k,) or not np.isfinite(shares).all() or np.any(shares < 0) or shares.sum() == 0:
        msg = f"`weights` must hold {k} numbers, one per start vector, none negative and not all zero."
        raise ValueError(msg)
    rule = gauss(T)
    rows = [(rule.nodes[i, :m], rule.weights[i, :m]) for i, m in enumerate(T.lengths)]
    picture = Picture(rows, [Rules.shortened(T, i) for i in range(k)], shares / shares.sum(), np.inf, _CONFIDENCE)
    points = None if x is None else _ascending(x)
    linear = Coordinate("linear")
    return _by_kernel(picture, T, linear, points, kind, width, "lin-saad-yang", reference, damping, terminator)


def _by_kernel(
    picture: Picture,
    T: Tridiagonal,
    coordinate: Coordinate,
    x: Floats | None,
    kind: str,
    width: float | None,
    rule: WidthRule,
    reference: Reference,
    damping: Damping,
    terminator: bool,
) -> Density:
    """Draw by Gaussians, polynomials or Lorentzians."""
    low, high = coordinate.forward(np.array(picture.ends))
    span, steps = float(high - low) or max(abs(float(high)), 1.0), picture.steps
    if kind == "gaussian":
        width = width or _smoothing.named_width(rule, float(low), float(low) + span, steps)
        points = _grid(picture, coordinate, width) if x is None else x
        return _classical.smoothed(picture, _smoothing.gaussian(width), coordinate, points, width)
    if kind == "haydock":
        width = width or span / steps
        points = _grid(picture, coordinate, width) if x is None else x
        value = _classical.terminated(T, picture.shares, points, width) if terminator else None
        return _classical.smoothed(picture, _smoothing.lorentzian(width), coordinate, points, width, value)
    a, b, degree = float(low) - _BEYOND * span, float(low) + span * (1 + _BEYOND), 2 * steps - 1
    if damping != "gaussian":
        degree = degree if width is None else min(degree, _smoothing.jackson_degree(a, b, width))
        width = np.pi * (b - a) / (2 * degree)
    else:
        width = width or span / steps
    kernel = _smoothing.polynomial(a, b, degree, reference=reference, damping=damping, width=width)
    points = np.linspace(a, b, _POINTS + 2)[1:-1] if x is None else x
    return _classical.smoothed(picture, kernel, coordinate, points, width)


def _adaptive(spectrum: Spectrum, x: Floats | None, width: float | None, coordinate: Coordinate) -> Density:
    alone, resolved = spectrum._alone, spectrum._resolved
    stems = Stems(resolved.values[alone], spectrum._meaning.shares[alone], resolved.gaps[alone])
    measure = spectrum._measure
    points = _density.grid(measure, coordinate, stems, width) if x is None else x
    return _density.density_of(
        measure, spectrum._shorter(), coordinate, points, stems=stems, width=width, confidence=spectrum.confidence
    )


def _raw(spectrum: Spectrum, measure: Measure) -> Nodes:
    """Return the rules as the probes gave them, with what was projected out of some put back at its share."""
    rows: Nodes = []
    for probe in measure.probes:
        nodes, weights = probe.nodes, probe.weights
        if spectrum.projected[probe.row]:
            left = 1 - spectrum.deflated.size / spectrum.n
            nodes = np.append(nodes, spectrum.deflated)
            weights = np.append(left * weights, np.full(spectrum.deflated.size, 1 / spectrum.n))
        order = np.argsort(nodes, kind="stable")
        rows.append((nodes[order], weights[order]))
    return rows


def _grid(picture: Picture, coordinate: Coordinate, width: float) -> Floats:
    low, high = coordinate.forward(np.array(picture.ends))
    margin = max(_WIDTHS * width, _MARGIN * (high - low))
    return coordinate.inverse(np.linspace(low - margin, high + margin, _POINTS))


def _ascending(x: npt.ArrayLike) -> Floats:
    points = np.array(x, dtype=np.float64, ndmin=1)  # a copy: the result is frozen
    if np.any(np.diff(points) < 0):
        msg = "`x` must ascend. Sort it first."
        raise ValueError(msg)
    return points


def _require_positive(width: Any) -> None:
    if width is not None and not width > 0:
        msg = f"`width` must be positive, got {width}."
        raise ValueError(msg)


def _require_choices(kind: str, kinds: Any, reference: str, damping: str) -> None:
    for name, value, choices in (
        ("kind", kind, kinds),
        ("reference", reference, Reference),
        ("damping", damping, Damping),
    ):
        if value not in get_args(choices):
            msg = f"`{name}` must be one of {', '.join(map(repr, get_args(choices)))}, got {value!r}."
            raise ValueError(msg)
