"""Errors of trace estimators against the number of products, on the six spectra of XTrace's paper (n = 1000).

    python benchmarks/accuracy_traces.py --trials 10
    python benchmarks/accuracy_traces.py --peers DIR     with matfree and jax in DIR: the same probes through matfree

Prints mean relative errors as a Markdown table. Sphere probes do not know a basis, so that a diagonal matrix stands for
all with its eigenvalues; Hutchinson's and Hutch++'s signs do, so that a random rotation is applied to these.

Spectra: Epperly, Tropp & Webber 2024, arXiv:2301.07825, section 3.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from _harness import arguments, use_peers

import slq
from slq._traces._blocks import Blocks

N = 1000
SPECTRA = {
    "flat": np.linspace(3.0, 1.0, N),
    "polynomial": np.arange(1, N + 1.0) ** -2,
    "exponential 0.9": 0.9 ** np.arange(N),
    "exponential 0.7": 0.7 ** np.arange(N),
    "step 1e-3": np.append(np.ones(50), np.full(N - 50, 1e-3)),
    "step 1e-8": np.append(np.ones(50), np.full(N - 50, 1e-8)),
}
ESTIMATORS = (slq.hutchinson, slq.hutchpp, slq.xtrace, slq.xnystrace)


def errors(estimator, A, trace, products, trials):
    """Return the relative errors of so many trials, and the share of intervals that held."""
    found = [estimator(A, products=products, rng=seed) for seed in range(trials)]
    values = np.array([e.value for e in found])
    return np.mean(np.abs(values - trace)) / trace, np.mean([e.low <= trace <= e.high for e in found])


def matfree(A, products, trials):
    """Return XTrace's and XNysTrace's values by matfree for the probes that slq draws."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from matfree import stochtrace

    def compiled(estimator):
        return jax.jit(lambda matrix, probes: estimator(lambda v: matrix @ v, probes).mean())

    x, nystrom = stochtrace.leave_one_out_xtrace(), stochtrace.leave_one_out_xnystrace()
    matrix, rows, both = jax.numpy.asarray(A), [], ((compiled(x), products // 2), (compiled(nystrom), products))
    for seed in range(trials):
        blocks = Blocks(slq.as_operator(A), seed)
        rows.append([float(f(matrix, blocks.draw(range(k), "sphere").T)) for f, k in both])
    return np.array(rows)


def main():
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--products", type=int, nargs="+", default=[20, 60, 100, 200])
    options = parser.parse_args()
    use_peers(options.peers)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((N, N)))[0]
    names = [f.__name__ for f in ESTIMATORS] + (["matfree xtrace", "matfree xnystrace"] if options.peers else [])
    print("| spectrum | products | " + " | ".join(names) + " |\n" + "| --- " * (2 + len(names)) + "|")
    for (name, values), products in product(SPECTRA.items(), options.products):
        A, trace = (rotation * values) @ rotation.T, values.sum()
        cells = [
            f"{e:.1e} ({held:.0%})" for e, held in (errors(f, A, trace, products, options.trials) for f in ESTIMATORS)
        ]
        if options.peers:
            cells += [f"{e:.1e}" for e in np.mean(np.abs(matfree(A, products, options.trials) - trace), axis=0) / trace]
        print(f"| {name} | {products} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
