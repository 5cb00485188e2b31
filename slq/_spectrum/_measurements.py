"""What papers read off the spectrum of a Hessian during training, each as one function of a run or of eigenvalues.

Nothing here knows of networks; the recorder of `slq_torch` calls these. Formulas are written out, since normalisations
differ between papers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slq._estimates import Claim, ErrorParts, Estimate
from slq._spectrum._spectrum import Spectrum


def outlier_ratio(eigenvalues: npt.ArrayLike, k: int, /) -> float:
    r"""Return :math:`\lambda_1 / \lambda_k`, how far the largest eigenvalue stands out of the first k.

    Parameters
    ----------
    eigenvalues : array_like, shape (m,)
        At least the k largest eigenvalues, in any order.
    k : int
        Such as the number of classes.

    Returns
    -------
    float
        At least 1; NaN where the k-th is not positive, since the ratio then says nothing.

    Raises
    ------
    TypeError, ValueError
        If `k` is no integer, or there are fewer.

    References
    ----------
    Ghorbani, Krishnan & Xiao 2019, arXiv:1901.10159, who follow it over the steps, with k the number of classes.

    Examples
    --------
    >>> import slq
    >>> slq.outlier_ratio([1.0, 8.0, 2.0], 2)
    4.0
    """
    values = np.sort(np.asarray(eigenvalues, dtype=np.float64).ravel())[::-1]
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
        msg = f"`k` must be an integer, got {k!r}."
        raise TypeError(msg)
    if not 1 <= k <= values.size:
        msg = f"`k` must lie between 1 and the {values.size} eigenvalues given, got {k}."
        raise ValueError(msg)
    largest, last = float(values[0]), float(values[k - 1])
    return largest / last if last > 0 else float("nan")


def negative_mass(spectrum: Spectrum, /) -> Estimate:
    """Return the share of eigenvalues below zero by more than the noise floor.

    Parameters
    ----------
    spectrum : Spectrum
        Of a Hessian, say: over training the share falls early and stays above zero.

    Returns
    -------
    Estimate
        Between 0 and 1, from `Spectrum.count`.

    References
    ----------
    Ghorbani, Krishnan & Xiao 2019, arXiv:1901.10159: the integral of their density over the negative axis.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> slq.negative_mass(slq.spectrum(np.diag([-1.0, 1.0, 2.0, 3.0]), rng=0)).value
    0.25
    """
    count, n = spectrum.count(-np.inf, float(np.nextafter(-spectrum.noise, -np.inf))), spectrum.n
    parts = ErrorParts(*(part / n for part in (count.error.sampling, count.error.quadrature, count.error.numeric)))
    return Estimate(count.value / n, count.low / n, count.high / n, parts, count.confidence, count.claim)


def trace_ratio(spectrum: Spectrum, /) -> Estimate:
    r"""Return :math:`\operatorname{tr} H / \|H\|_F`, the mean curvature against its spread.

    It is sqrt(n) for a multiple of the identity, 0 where positive and negative curvature balance, and about the square
    root of the number of outliers where these dominate. The interval combines those of both traces, so that it holds
    whatever their dependence, at a confidence of at least 1 - 2 (1 - c) for a spectrum of confidence c.

    Parameters
    ----------
    spectrum : Spectrum
        Any.

    Returns
    -------
    Estimate
        The ratio; NaN for the zero matrix.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> round(slq.trace_ratio(slq.spectrum(2.0 * np.eye(9), rng=0)).value, 6)
    3.0
    """
    trace, norm = spectrum.trace(), spectrum.frobenius_norm()
    norms = np.array([norm.low, norm.value, norm.high])
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.float64(trace.value) / norms[1]
        ends = np.array([[trace.low, trace.high]]) / norms[[0, 2], None]
    low, high = float(ends.min()), float(ends.max())
    half = max(high - value, value - low)
    shares = (trace.error.sampling, trace.error.quadrature, trace.error.numeric)
    total = sum(shares)
    parts = (
        ErrorParts(*(half * share / total if share else 0.0 for share in shares)) if total else ErrorParts(0, half, 0)
    )
    claim: Claim = "certified" if trace.claim == norm.claim == "certified" else "estimate"
    confidence = max(1 - 2 * (1 - spectrum.confidence), 0.0)
    return Estimate(float(value), low, high, parts, confidence, claim)


def sharpness(largest: float, learning_rate: float, /) -> float:
    r"""Return :math:`\eta \lambda_1 / 2`, the largest eigenvalue as a share of the stability limit 2 / learning rate.

    Gradient descent with step :math:`\eta` is stable along an eigenvector as long as this is below 1.

    Parameters
    ----------
    largest : float
        The largest eigenvalue of the Hessian.
    learning_rate : float
        Step size of gradient descent, without momentum.

    Returns
    -------
    float
        The share.

    Raises
    ------
    ValueError
        If the learning rate is not positive.

    References
    ----------
    Cohen et al. 2021, Gradient descent on neural networks typically occurs at the edge of stability, arXiv:2103.00065.
    There the largest eigenvalue itself is called sharpness, and compared with 2 / learning rate.

    Examples
    --------
    >>> import slq
    >>> slq.sharpness(50.0, 0.02)
    0.5
    """
    if not learning_rate > 0:
        msg = f"`learning_rate` must be positive, got {learning_rate}."
        raise ValueError(msg)
    return 0.5 * largest * learning_rate
