"""What other libraries say of the inputs that hurt: `python -m benchmarks.killers_peers` writes killers_peers.md.

Each is asked for what it is made for, with its defaults or what its examples take, in a process of its own that may
crash or hang. A value is right where the truth is within three times the error that the library states, or, where it
states none, within a tenth of the sum of magnitudes. Needs imate, scikit-primate and matfree besides slq.
"""

import multiprocessing
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import scipy.sparse.linalg

import slq
from tests.killers.inputs import INPUTS

OUT = Path(__file__).parent / "killers_peers.md"
N, SECONDS, SEED = 25, 120, 0
PARTS = 0.1


class NoMatrix(Exception):
    """The input is no matrix, and the library takes nothing else."""


def matrix_of(case):
    """Return what takes only matrices a matrix; what is an operator is refused here, not by the library."""
    if not isinstance(case.A, np.ndarray):
        raise NoMatrix
    return case.A


def linear_operator(case):
    """Return the input as SciPy's LinearOperator, multiplying vectors as the input does."""
    operator = slq.as_operator(case.A)
    return scipy.sparse.linalg.LinearOperator(
        operator.shape, matvec=lambda v: operator.product(np.reshape(v, (-1, 1)))[:, 0], dtype=operator.dtype
    )


def arpack(case):
    """Largest eigenvalue."""
    return float(scipy.sparse.linalg.eigsh(linear_operator(case), k=1, which="LA", return_eigenvectors=False)[0]), None


def imate_logdet(case):
    import imate

    value, info = imate.logdet(
        matrix_of(case), method="slq", return_info=True, min_num_samples=20, max_num_samples=100, lanczos_degree=12
    )
    return value, info["error"]["absolute_error"]


def primate_hutch(case):
    from primate.trace import hutch

    return float(hutch(linear_operator(case), seed=SEED)), None


def primate_xtrace(case):
    from primate.trace import xtrace

    return float(xtrace(linear_operator(case), seed=SEED)), None


def matfree_logdet(case):
    import jax
    from matfree import decomp, funm, stochtrace

    jax.config.update("jax_enable_x64", True)
    A = jax.numpy.asarray(matrix_of(case))
    integrand = funm.monte_carlo_funm_sym_logdet(decomp.tridiag_sym(min(12, case.n)))
    sampler = stochtrace.sampler_signs(jax.numpy.ones(case.n, dtype=A.dtype), num=20)
    estimate = stochtrace.estimator_monte_carlo_mean_and_sem(integrand, sampler)
    mean, deviation = estimate(lambda v: A @ v, jax.random.PRNGKey(SEED))
    return float(mean), float(deviation)


def largest(case):
    return case.values[-1], abs(case.values[-1]), 1e-5


def logdet(case):
    values = case.values
    logs = np.log(values) if values[0] > 0 else np.array([np.nan])
    return logs.sum(), np.abs(logs).sum() + case.n, PARTS


def trace(case):
    return np.trace(case.matrix), np.abs(case.matrix).sum(), PARTS


PEERS = {
    "scipy `eigsh`": (arpack, largest, "scipy"),
    "imate `logdet`": (imate_logdet, logdet, "imate"),
    "matfree log det": (matfree_logdet, logdet, "matfree"),
    "primate `hutch`": (primate_hutch, trace, "scikit-primate"),
    "primate `xtrace`": (primate_xtrace, trace, "scikit-primate"),
}


def judge(ask, truth_of, input_):
    """Return the verdict on one library and one input."""
    case = input_.make(N)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            value, error = ask(case)
        except NoMatrix:
            return "–"
        except Exception as caught:
            return f"error ({type(caught).__name__})"
    words = " (warns)" if told else ", no word"
    if not np.isfinite(value):
        return "NaN or infinite"
    try:
        truth, size, share = truth_of(input_.make(N))
    except AssertionError:  # there is no truth: only words would do
        return "**wrong**" + words
    within = max(share * size if error is None else 3 * error, 1e-9 * size)
    right = np.isfinite(truth) and abs(value - truth) <= within
    return "right" if right else "**wrong**" + words


def work(ask, truth_of, first, pipe):
    """Send the verdicts on all inputs from a number on."""
    for input_ in INPUTS[first:]:
        pipe.send(judge(ask, truth_of, input_))


def column(ask, truth_of):
    """Return the verdicts on all inputs, from processes that may crash or hang."""
    found = []
    while len(found) < len(INPUTS):
        here, there = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=work, args=(ask, truth_of, len(found), there))
        process.start()
        there.close()
        try:
            while len(found) < len(INPUTS) and here.poll(SECONDS):
                found.append(here.recv())
            if len(found) < len(INPUTS):
                found.append("hangs")
        except EOFError:
            process.join()
            found.append(f"crashes ({process.exitcode})")
        process.kill()
        process.join()
    return found


def main():
    names = ", ".join(f"{name} {version(name)}" for name in dict.fromkeys(name for *_, name in PEERS.values()))
    lines = [
        "## The same inputs elsewhere",
        "",
        f"Measured by `python -m benchmarks.killers_peers` with {names}; one function each, the largest eigenvalue, a",
        "log-determinant or a trace. Right: within three times the stated error, or a tenth of the sum of magnitudes",
        "(1e-5 of the eigenvalue) where none is stated. A dash: it takes matrices, and this is no matrix. PyHessian",
        "takes networks only. The log-determinant of a matrix that has none counts as wrong where a number comes back.",
        "",
        "| input | " + " | ".join(PEERS) + " |",
        "| --- |" + " --- |" * len(PEERS),
    ]
    columns = []
    for name, (ask, truth_of, _) in PEERS.items():
        columns.append(column(ask, truth_of))
        sys.stdout.write(f"{name}: {columns[-1]}\n")
        sys.stdout.flush()
    for input_, *cells in zip(INPUTS, *columns, strict=True):
        lines.append(f"| {input_.phrase} | " + " | ".join(cells) + " |")
    counts = [str(sum(found.endswith("no word") for found in cells)) for cells in columns]
    lines.append(f"| wrong without a word | {' | '.join(counts)} |")
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
