"""Mean errors of trace estimators against the number of products, over many trials, as a table and a picture.

    python benchmarks/trace_curves.py --trials 1000 --out curves.json --picture docs/images/trace_curves.png
    python benchmarks/trace_curves.py --trials 20 --peers DIR     with matfree and jax in DIR: beside it, same probes

The six spectra of Epperly, Tropp & Webber 2024, arXiv:2301.07825, section 3, n = 1000, relative errors. A trial draws
its probes once: sketches of fewer products are the first columns of larger ones, and all spectra share the probes. What
is made of the small matrices is slq's own code; that the values are those of the public functions is checked first.
"""

import json
from pathlib import Path

import numpy as np
from _harness import arguments, use_peers
from accuracy_traces import SPECTRA, N, matfree

import slq
from slq._traces._blocks import Blocks
from slq._traces._leave_one_out import leave_one_out, nystrom_samples

PRODUCTS = (20, 40, 60, 100, 140, 200)
NAMES = ("Hutchinson", "Hutch++", "XTrace", "XNysTrace")


def values_of(spectrum, omega, signs):
    """Return the estimates of one trial, shape (estimators, products), in the basis of the eigenvectors."""
    Y = spectrum[:, None] * omega
    Q, R = np.linalg.qr(Y)
    half = max(PRODUCTS) // 2
    Q = Q[:, :half]
    H, W, core, gram = Q.T @ (spectrum[:, None] * Q), Q.T @ omega[:, :half], omega.T @ Y, omega.T @ omega
    image = spectrum[:, None] * signs
    plain, seen, through = np.sum(signs * image, axis=0), Q.T @ signs, Q.T @ image
    found = np.empty((len(NAMES), len(PRODUCTS)))
    for j, m in enumerate(PRODUCTS):
        s, k = m // 2, m // 3
        left = slice(0, m - 2 * k)
        A, w, r = H[:k, :k], seen[:k, left], through[:k, left]
        rest = plain[left] - 2 * np.sum(w * r, axis=0) + np.sum(w * (A @ w), axis=0)
        found[0, j] = plain[:m].mean()
        found[1, j] = np.trace(A) + rest.mean()
        found[2, j] = leave_one_out(H[:s, :s], R[:s, :s], W[:s, :s], N).mean()
        found[3, j] = nystrom_samples(core[:m, :m], gram[:m, :m], R[:m, :m], N, np.finfo(float).eps).mean()
    return found


def draw(seed, rotation):
    """Return the sphere probes and the rotated signs that slq draws for a seed."""
    blocks, most = Blocks(slq.as_operator(np.eye(N)), seed), max(PRODUCTS)
    return blocks.draw(range(most), "sphere"), rotation.T @ blocks.draw(range(most), "rademacher")


def require_the_same(rotation):
    """Raise unless the estimates of a trial are those of the public functions."""
    spectrum = SPECTRA["polynomial"]
    found = values_of(spectrum, *draw(7, rotation))
    dense = (rotation * spectrum) @ rotation.T
    for j, m in ((0, 20), (3, 100)):
        public = (slq.hutchinson(dense, products=m, rng=7), slq.xtrace(np.diag(spectrum), products=m, rng=7))
        public += (slq.xnystrace(np.diag(spectrum), products=m, rng=7),)
        np.testing.assert_allclose(found[[0, 2, 3], j], [e.value for e in public], rtol=1e-9)


def beside_matfree(trials, rotation):
    """Print mean errors of slq over those of matfree for the same probes."""
    drawn = [draw(seed, rotation) for seed in range(trials)]
    print("| spectrum | products | XTrace | matfree | ratio | XNysTrace | matfree | ratio |\n" + "| --- " * 8 + "|")
    for name, spectrum in SPECTRA.items():
        own = np.array([values_of(spectrum, *probes) for probes in drawn])
        for m in (40, 100, 200):
            trace, both = spectrum.sum(), own[:, 2:, PRODUCTS.index(m)]
            ours, theirs = (
                np.mean(np.abs(values - trace), axis=0) / trace
                for values in (both, matfree(np.diag(spectrum), m, trials))
            )
            cells = [f"{a:.1e} | {b:.1e} | {a / b:.2f}" for a, b in zip(ours, theirs, strict=True)]
            print(f"| {name} | {m} | " + " | ".join(cells) + " |", flush=True)


def picture(errors, path, trials):
    """Draw the six panels."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(10, 6), sharex=True, layout="constrained")
    for panel, (title, curves) in zip(axes.flat, errors.items(), strict=True):
        for name, curve, marker in zip(NAMES, curves, "osD^", strict=True):
            panel.semilogy(PRODUCTS, curve, marker=marker, markersize=4, label=name)
        panel.set_title(title, loc="left")
    for panel in axes[1]:
        panel.set_xlabel("products")
    axes[0, 0].set_ylabel("mean relative error")
    axes[1, 0].set_ylabel("mean relative error")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, title=f"{trials} trials", loc="outside upper center", ncols=len(NAMES), frameon=False
    )
    figure.savefig(path, dpi=90)


def main():
    """Run the trials; print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--picture", type=Path, help="write the six panels to this file")
    options = parser.parse_args()
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((N, N)))[0]
    require_the_same(rotation)
    if options.peers:
        use_peers(options.peers)
        beside_matfree(options.trials, rotation)
        return
    sums, done = {name: np.zeros((len(NAMES), len(PRODUCTS))) for name in SPECTRA}, 0
    for seed in range(options.trials):
        omega, signs = draw(seed, rotation)
        for name, spectrum in SPECTRA.items():
            sums[name] += np.abs(values_of(spectrum, omega, signs) - spectrum.sum()) / spectrum.sum()
        done += 1
        if options.out and (done % 50 == 0 or done == options.trials):
            curves = {name: (total / done).tolist() for name, total in sums.items()}
            options.out.write_text(json.dumps({"trials": done, "products": PRODUCTS, "errors": curves}))
    errors = {name: total / done for name, total in sums.items()}
    print(
        "| spectrum | estimator | "
        + " | ".join(map(str, PRODUCTS))
        + " |\n| --- | --- "
        + "| --- " * len(PRODUCTS)
        + "|"
    )
    for name, curves in errors.items():
        for estimator, curve in zip(NAMES, curves, strict=True):
            print(f"| {name} | {estimator} | " + " | ".join(f"{error:.1e}" for error in curve) + " |")
    if options.picture:
        picture(errors, options.picture, done)


if __name__ == "__main__":
    main()
