"""
The Laplacian of a graph
========================

The eigenvalues of a graph's normalised Laplacian, between 0 and 2, tell how it hangs together: zero occurs once per
connected component, and each small eigenvalue stands for a part that is hardly connected to the rest; finding clusters
starts with their number. Here the graph joins each of 1797 handwritten digits (scikit-learn's, real scans) to the ten
that look most like it, and all eigenvalues can be computed for comparison. For a graph of your own, name a Matrix
Market file, for example from the SuiteSparse collection; its entries count as weights of edges:

.. code-block:: bash

    python examples/plot_graph_laplacian.py my_graph.mtx
"""

# %%
# The graph
# ---------
# Its symmetric adjacency matrix W, and the Laplacian L = I - D^(-1/2) W D^(-1/2) with the degrees D.

import argparse

import matplotlib.pyplot as plt
import numpy as np
import scipy.io
import scipy.sparse as sp
from sklearn.datasets import load_digits
from sklearn.neighbors import kneighbors_graph

import slq

parser = argparse.ArgumentParser()
parser.add_argument("path", nargs="?", help="a Matrix Market file (.mtx or .mtx.gz)")
parser.add_argument("--largest", type=int, default=4000, help="compute all eigenvalues of graphs up to this size")
options = parser.parse_args()

if options.path:
    W = abs(sp.csr_array(scipy.io.mmread(options.path)))
else:
    pixels, _ = load_digits(return_X_y=True)
    W = sp.csr_array(kneighbors_graph(pixels, n_neighbors=10))
W = (W + W.T) / 2
W.setdiag(0)
W.eliminate_zeros()
degree = W.sum(axis=1)
scale = sp.diags_array(1 / np.sqrt(np.where(degree > 0, degree, 1.0)))
L = sp.csr_array(sp.eye_array(W.shape[0]) - scale @ W @ scale)
n = L.shape[0]
print(f"{n} nodes, {sp.triu(W).nnz} edges")

# %%
# Its spectrum
# ------------
# A product costs as much as the graph has edges, so graphs of millions of nodes take minutes.

s = slq.spectrum(L, rng=0)
print(s)

# %%
# How many parts?
# ---------------
# The number of small eigenvalues, each with its interval; and, as an example of a trace, the expected number of random
# walks of four steps that end where they began, summed over all nodes.

for limit in (0.05, 0.1, 0.2):
    print(f"eigenvalues up to {limit}: {s.count(-np.inf, limit)}")
walks = s.trace(lambda x: (1 - x) ** 4)
print(f"trace of (I - L)^4: {walks}")

# %%
# Against all eigenvalues
# -----------------------
# A dense solver needs n² numbers and n³ operations; up to a few thousand nodes that is bearable.

exact = None
if n <= options.largest:
    exact = np.linalg.eigvalsh(L.toarray())
    for limit in (0.05, 0.1, 0.2):
        print(f"exact number up to {limit}: {np.sum(exact <= limit)}")
    print(f"exact trace of (I - L)^4: {np.sum((1 - exact) ** 4):.2f}")
    x = np.linspace(exact[0], exact[-1], 10_000)
    F, share = s.cdf(x), np.searchsorted(exact, x, side="right") / n
    print(f"distribution off by {np.abs(F.value - share).mean():.2%} on average, stated {s.error.total:.2%}")
    print(
        f"exact curve inside the band on {np.mean((F.low <= share + 1e-9) & (share <= F.high + 1e-9)):.1%} of the axis"
    )

# %%
# The picture
# -----------

figure, axes = plt.subplots(2, 1, figsize=(6, 6), layout="constrained", sharex=True)
slq.plot.density(s, axes[0], exact=exact)
slq.plot.cdf(s, axes[1], exact=exact)
plt.show()
