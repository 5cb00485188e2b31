"""The driver: a tolerance goes in, as few products as it needs come out as a Spectrum.

1. The first probes advance in chunks of steps until more steps would not lower the cost of all the probes that the
   tolerance takes, and the outliers that show are resolved.
2. More probes are run to the same length until the sampling error fits into what is left; or, for a small operator,
   all its columns are multiplied and diagonalised, or the first probes go on until every eigenvalue is resolved,
   where that costs less.
3. The products are tested for symmetry and repeatability, and what was seen becomes the noise floor.
With both probes= and steps= given, exactly those are run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from slq._lanczos._basis import Precision
from slq._lanczos._probes import Kind, Seed
from slq._quadrature._budget import ErrorBudget, settled
from slq._run._choice import Deflate
from slq._run._opening import open_session, validate_tolerance
from slq._run._session import Callback, Session
from slq._spectrum._spectrum import Spectrum

# Share of the tolerance that the quadrature error may take where the number of probes is fixed.
_QUADRATURE_SHARE = 2 / 3
# Probes are added until their error is this share of the tolerance at least, whatever the steps have left of it.
LEAST_LEFT = 1 / 6
# Steps between looks at the error: looking costs milliseconds, products may cost microseconds.
FIRST_LOOK = 8
# Where it is known about how many steps a matrix takes, the first look comes at this share of them, and then at every
# step: the error goes up and down from one step to the next, and most of that is seen. On a network's Hessian through
# its training that took 34 steps where looks at every fourth took 43, with errors of the same size. From the first step
# on it would be no good: before the bulk shows, curves agree by chance.
_EARLY = 0.7
# Probes grow by at most this factor between looks: a few more may settle what many would only average.
_GROWTH = 4
# Where single eigenvalues show but are not resolved, up to this many times the steps are spent on them.
_PATIENCE = 2.0


def spectrum(
    A: Any,
    /,
    *,
    tol: float = 0.01,
    probes: int | None = None,
    steps: int | None = None,
    rng: Seed = None,
    kind: Kind = "sphere",
    reorth: Literal["auto", "full", "none"] = "auto",
    basis: Precision | Literal["auto"] = "auto",
    scratch: str | Path | None = None,
    dtype: Any = None,
    batch: int | Literal["auto"] = "auto",
    deflate: Deflate = "auto",
    confidence: float = 0.95,
    max_products: int | None = None,
    memory: float | None = None,
    progress: bool = False,
    callback: Callback | None = None,
    checkpoint: str | Path | None = None,
    timeout: float | None = None,
) -> Spectrum:
    """Estimate the spectrum of a symmetric or Hermitian operator by stochastic Lanczos quadrature.

    Random unit vectors are taken through Lanczos in lock-step; the small tridiagonal matrices give quadrature rules
    that stand for the distribution of eigenvalues. Costs `probes * steps` products, plus one to three that test
    symmetry, linearity and repeatability, and memory for `batch * steps` vectors with full re-orthogonalisation, for
    about six per probe without.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes: matrix, sparse matrix, LinearOperator, Hessian, callable.
    tol : float, default 0.01
        Error to aim for: Wasserstein-1 distance between the estimated and the true distribution of eigenvalues, in the
        display coordinate (linear, or asinh where far outliers squeeze the bulk), as a share of its range.
    probes, steps : int, optional
        Fix the number of start vectors, of Lanczos steps, or both; what is not fixed follows from `tol`.
    rng : int, numpy.random.Generator or None
        Seed. The same integer gives the same probes on every array library, batch size and device.
    kind : {"sphere", "rademacher"}, default "sphere"
        Law of the start vectors. The bands of distribution and counts hold for sphere probes; Rademacher ones give
        traces less scatter, and the first is a sphere probe then too, to certify the edges.
    reorth : {"auto", "full", "none"}, default "auto"
        Keep all Krylov vectors and stay orthogonal to them, or not. "auto" does where it fits into memory and its time
        is bearable beside the products' (measured): `metadata["vectors"]` says what it chose and why. Without it every
        claim is an estimate. In the host's memory and their own precision, vectors are made orthogonal where they would
        else be off by a fifth of sqrt(eps), which T does not feel (Simon 1984, doi:10.1090/S0025-5718-1984-0725988-X).
    basis : {"auto", "float64", "float32", "float16"}, default "auto"
        Precision in which all Krylov vectors but the newest two are kept. "auto" takes their own where it fits into
        memory, else a shorter one. float16 raises the noise floor of eigenvalues to about 2e-6 of the largest, float32
        that of float64 vectors to 3e-14.
    scratch : str or Path, optional
        Folder for the Krylov vectors of reorth="full" where they do not fit into memory; by default the system's one
        for temporary files. Nothing is left there.
    dtype : dtype, optional
        Of the Krylov vectors; by default the operator's, at least float32.
    batch : int or "auto"
        Probes multiplied at once.
    deflate : {"auto", "none"}, default "auto"
        Whether to project eigenvectors that the first probes have resolved out of later ones (P A P), so that these
        eigenvalues count exactly however many probes follow. Costs no product.
    confidence : float, default 0.95
        Of all intervals.
    max_products : int, optional
        Never multiply more columns than this; two are kept for the test of symmetry and repeatability.
    memory : float, optional
        Bytes that Krylov vectors may take; half of what is free by default.
    progress : bool, default False
        Show a progress bar on stderr (needs tqdm).
    callback : callable, optional
        Called with the partial Spectrum after every chunk; return True to stop.
    checkpoint : str or Path, optional
        An .npz file that the run is written to, as often as costs 1 % of its time, and resumed from where it
        exists: with the same operator and options, to the same numbers. It stays when the run has ended; a call with it
        gives the result again. Not part of what `Spectrum.save` writes. SIGINT and SIGTERM end a run that has one after
        the current product, with status "interrupted"; a second one ends it at once. Resuming costs one product, which
        tells whether the operator is the same. Past vectors lie in a file beside it; those of several GPUs by CuPy are
        not written: their last batch of probes begins again.
    timeout : float, optional
        Seconds that one product may take, as for `slq.as_operator`; no limit by default. Not among what a checkpoint
        must be resumed with.

    Returns
    -------
    Spectrum
        Of a few kilobytes; ask it for density, distribution, counts, traces, without further products.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, `A` is no symmetric or Hermitian operator, or `checkpoint` is damaged or another
        run's.
    BlockingIOError
        If another run has `checkpoint` open.
    RunError
        If a product is not finite, of the wrong shape, raises, takes longer than `timeout` or writes into its argument,
        or `callback` raises; `.partial` holds what was done.

    Warns
    -----
    SlqWarning
        If the operator is measurably asymmetric or nonlinear, its products do not repeat or are subnormal numbers.

    References
    ----------
    Ghorbani, Krishnan & Xiao 2019, arXiv:1901.10159. Lin, Saad & Yang 2016, doi:10.1137/130934283. Chen, Trogdon &
    Ubaru 2021, arXiv:2105.06595.

    Examples
    --------
    >>> import slq
    >>> operator, law = slq.gallery.semicircle(1000)
    >>> s = slq.spectrum(operator, probes=4, steps=30, rng=0)
    >>> band = s.cdf(0.0)
    >>> bool(band.low[0] <= law.cdf(0.0) <= band.high[0])
    True
    """
    validate_tolerance(tol)
    session = open_session(
        A,
        probes=probes,
        steps=steps,
        rng=rng,
        kind=kind,
        reorth=reorth,
        basis=basis,
        scratch=scratch,
        dtype=dtype,
        batch=batch,
        deflate=deflate,
        confidence=confidence,
        max_products=max_products,
        memory=memory,
        progress=progress,
        callback=callback,
        checkpoint=checkpoint,
        timeout=timeout,
        goal={"tol": tol},
    )
    status = "interrupted"
    with session:
        status = run(session, tol=tol, fixed_probes=probes is not None, fixed_steps=steps is not None)
    return session.result(status)


def extend(
    spectrum: Spectrum,
    A: Any,
    /,
    *,
    probes: int | None = None,
    steps: int | None = None,
    memory: float | None = None,
    max_products: int | None = None,
    progress: bool = False,
    callback: Callback | None = None,
) -> Spectrum:
    """Take a run further; see `Spectrum.extend`."""
    if spectrum.kind == "exact":
        msg = "this spectrum holds all eigenvalues: there is nothing to extend."
        raise ValueError(msg)
    probes, steps = probes or spectrum.probes, steps or spectrum.steps
    if probes < spectrum.probes or steps < spectrum.steps:
        msg = (
            f"`probes` and `steps` count all there shall be: at least the {spectrum.probes} × {spectrum.steps} there "
            f"are, got {probes} × {steps}."
        )
        raise ValueError(msg)
    if spectrum.metadata.get("shift"):
        msg = f"a spectrum shifted by {spectrum.metadata['shift']:g} is not that of `A`. Extend the run, then shift it."
        raise ValueError(msg)
    if spectrum.projected.any():
        msg = 'a run with deflated probes cannot be extended: its vectors are gone. Run it with deflate="none".'
        raise ValueError(msg)
    if spectrum.groups.max() > 0:
        msg = "a merged spectrum has probes of several seeds and cannot be extended. Extend its parts, then merge."
        raise ValueError(msg)
    session = open_session(
        A,
        probes=probes,
        steps=steps,
        rng=spectrum.seed,
        kind=spectrum.kind,
        reorth=spectrum.reorth,
        basis=spectrum.metadata.get("basis", "auto"),
        deflate="none",
        dtype=spectrum.metadata.get("dtype"),
        confidence=spectrum.confidence,
        memory=memory,
        max_products=max_products,
        progress=progress,
        callback=callback,
        before=spectrum,
    )
    if (session.n, session.operator.copies) != (spectrum.n, spectrum.copies):
        fields = {1: "real", 2: "complex"}
        msg = (
            f"`A` has dimension {session.n} and is {fields[session.operator.copies]}, the spectrum has {spectrum.n} "
            f"and is {fields[spectrum.copies]}: it is another operator."
        )
        raise ValueError(msg)
    if session.runs.probes == 0 and max_products is not None and max_products < probes * steps:
        msg = (
            f"`max_products` = {max_products} is less than the {probes * steps} that repeating the run with more steps "
            "takes. Raise it, or ask for more probes at the same steps."
        )
        raise ValueError(msg)
    with session:
        if session.runs.probes == 0:
            session.open(session.width)
            if not session.advance(steps):
                return session.result(session.why_stopped)
        status = "extended as asked" if session.add_probes(probes) else session.why_stopped
    return session.result(status)


def part(A: Any, begin: int, /, *, probes: int, steps: int, rng: int, **options: Any) -> Spectrum:
    """Run so many probes from number `begin` on, as the share of one process in a run of more of them."""
    session = open_session(A, begin=begin, probes=probes, steps=steps, rng=rng, deflate="none", **options)
    status = "interrupted"
    with session:
        status = run(session, tol=0.5, fixed_probes=True, fixed_steps=True)
    return session.result(status)


def run(
    session: Session,
    *,
    tol: float,
    fixed_probes: bool,
    fixed_steps: bool,
    expected: int | None = None,
    grown: Callable[[], object] | None = None,
    patience: float = _PATIENCE,
) -> str:
    """Spend the products; return in words why it ended.

    `expected` are the steps that a matrix much like this one took; `grown` is called when the first probes have made
    theirs, while their vectors are there. So many times the steps are spent on single eigenvalues at most (`patience`).
    """
    runs = session.runs
    free = not (fixed_probes or fixed_steps)
    if free and session.diagonalising_is_cheaper(session.width * FIRST_LOOK):
        return session.diagonalise()
    session.open(session.width)
    ended = _grow_steps(session, tol=tol, fixed=fixed_steps, free=free, expected=expected, patience=patience)
    if grown is not None:
        grown()
    if ended:
        return ended
    if runs.probes < session.choice.probes and not session.add_probes(session.choice.probes):
        return session.why_stopped
    if fixed_probes:
        return "as asked" if fixed_steps else "steps to the tolerance, probes as asked"
    session.test()  # before more is spent on an operator that drifts
    while True:
        budget = session.partial().error
        if budget.numeric >= tol:
            return "noise floor reached"
        if budget.sampling <= _left(budget, tol):
            return "tolerance met" if budget.total <= tol else f"error of {budget.total:.2g} left by the steps"
        if free and session.diagonalising_is_cheaper(_missing(session, budget, tol)):
            return session.diagonalise()
        wanted = int(np.ceil(runs.probes * (budget.sampling / _left(budget, tol)) ** 2))
        if not session.add_probes(min(max(wanted, runs.probes + 1), _GROWTH * runs.probes)):
            return session.why_stopped


def _left(budget: ErrorBudget, tol: float) -> float:
    """Return what steps and rounding have left of the tolerance for the probes."""
    return max(tol - budget.quadrature - budget.numeric, LEAST_LEFT * tol)


def _missing(session: Session, budget: ErrorBudget, tol: float) -> float:
    """Return how many products the probes still to come will take."""
    runs = session.runs
    return float(runs.probes * runs.steps * max((budget.sampling / _left(budget, tol)) ** 2 - 1, 0.0))


def _grow_steps(
    session: Session, *, tol: float, fixed: bool, free: bool, expected: int | None, patience: float
) -> str | None:
    """Advance the first batch until the quadrature error is small; a text says why the whole run ends here.

    `fixed` steps are made whatever the error; only where probes are `free` too may all columns take their place. The
    first look comes well before the `expected` steps, and then one at every step.
    """
    runs, most = session.runs, session.choice.steps
    enough = None  # steps at which the error was small enough first
    while not runs.finished and runs.steps < most:
        chunk = FIRST_LOOK if fixed else max(FIRST_LOOK, runs.steps // 4)
        if expected is not None and not fixed:
            chunk = 1 if runs.steps else max(FIRST_LOOK, int(_EARLY * expected))
        if not session.advance(min(most - runs.steps, chunk)):
            return session.why_stopped
        if fixed:
            continue
        partial = session.partial()
        budget = partial.error
        if budget.numeric >= tol:
            return "noise floor reached"
        scatter = budget.sampling * np.sqrt(runs.probes)
        room = tol - budget.numeric
        if (
            settled(budget.quadrature, scatter, session.choice.probes, room)
            if free
            else budget.quadrature <= _QUADRATURE_SHARE * tol
        ):
            enough = enough or runs.steps
            resolving = partial.unresolved_outliers > 0 and runs.steps < patience * enough
            wanted = runs.probes * (budget.sampling / _left(budget, tol)) ** 2
            dense = free and session.diagonalising_is_cheaper(_missing(session, budget, tol))
            if not resolving and (dense or not session.resolving_is_cheaper(wanted)):
                return None
        if free and session.diagonalising_is_cheaper(runs.products):
            return session.diagonalise()  # never spend more than twice what that takes
    if fixed or runs.finished or most >= session.operator.n:
        return None
    return "memory for Krylov vectors used up"
