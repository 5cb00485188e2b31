"""
TensorFlow: a Hessian product through DLPack
============================================

slq knows nothing of TensorFlow, and need not: a ``tf.function`` multiplies the Hessian of a network by a block of
vectors, and the blocks cross over by DLPack. The spectrum is compared with the eigenvalues of the dense Hessian and,
where PyTorch is installed, with the same network written there.

    pip install tensorflow-cpu scikit-learn
    python examples/tensorflow_hessian.py
"""

# %%
# A network whose parameters are one vector
# -----------------------------------------
# 64-16-10 with tanh, trained for a moment on the digits of scikit-learn.

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported, or it tells of your processor

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

import slq

parser = argparse.ArgumentParser()
parser.add_argument("--hidden", type=int, default=16)
parser.add_argument("--samples", type=int, default=1000)
options = parser.parse_args()

digits = load_digits()
x = tf.constant(digits.data[: options.samples] / 16)
y = tf.constant(digits.target[: options.samples])
shapes = [(64, options.hidden), (options.hidden,), (options.hidden, 10), (10,)]
sizes = [int(np.prod(shape)) for shape in shapes]
n = sum(sizes)
theta = tf.Variable(np.random.default_rng(0).standard_normal(n) / 8)


def mean_loss(flat):
    A, a, B, b = (tf.reshape(part, shape) for part, shape in zip(tf.split(flat, sizes), shapes, strict=True))
    logits = tf.tanh(x @ A + a) @ B + b
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))


@tf.function
def gradient():
    with tf.GradientTape() as tape:
        value = mean_loss(theta)
    return tape.gradient(value, theta)


for _ in range(200):
    theta.assign_sub(2.0 * gradient())
print(f"{n} parameters, loss {float(mean_loss(theta)):.4f}")

# %%
# The product, and how blocks cross over
# --------------------------------------
# The gradient is differentiated once more along every column of the block. `slq.as_operator` needs the dimension and
# one array like those it shall work with: here NumPy's, in float64. On a GPU, give an array of CuPy or PyTorch instead,
# and its own ``from_dlpack`` in place of NumPy's. On the CPU TensorFlow ends the whole process where memory that it was
# given does not begin at a multiple of 64 bytes, so the block is copied to such a place; what comes back is not copied.


@tf.function(reduce_retracing=True)
def hessian_product(X):
    def one(v):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                value = mean_loss(theta)
            along = tf.tensordot(inner.gradient(value, theta), v, 1)
        return outer.gradient(along, theta)

    return tf.transpose(tf.vectorized_map(one, tf.transpose(X)))


def aligned(X):
    room = np.empty(X.nbytes + 64, dtype=np.uint8)
    first = -room.ctypes.data % 64
    block = room[first : first + X.nbytes].view(X.dtype).reshape(X.shape)
    block[...] = X
    return block


def product(X):
    block = tf.experimental.dlpack.from_dlpack(aligned(X).__dlpack__())
    return np.from_dlpack(hessian_product(block))


H = slq.as_operator(product, n=n, like=np.zeros(1), block=True)
s = slq.spectrum(H, probes=8, steps=60, rng=0)
print(s)

# %%
# Is it right?
# ------------
# All columns of the identity give the dense matrix; LAPACK its eigenvalues.

dense = product(np.eye(n))
values = np.linalg.eigvalsh((dense + dense.T) / 2)
print(f"largest eigenvalue {s.nodes.max():.8f}, dense {values[-1]:.8f}")
trace = s.trace(lambda t: t)
print(f"trace {trace}, dense {values.sum():.4f}")
print(f"the band holds the trace: {trace.low <= values.sum() <= trace.high}")

try:
    import slq_torch
    import torch
except ImportError:
    print("PyTorch is not installed: nothing to compare with")
else:
    data = tuple(torch.asarray(t.numpy()) for t in (x, y))

    def torch_loss(flat):
        parts = flat.split(sizes)
        A, a, B, b = (part.view(shape) for part, shape in zip(parts, shapes, strict=True))
        return torch.nn.functional.cross_entropy(torch.tanh(data[0] @ A + a) @ B + b, data[1])

    flat = torch.asarray(theta.numpy()).requires_grad_()
    twin = slq.spectrum(slq_torch.hessian(lambda: torch_loss(flat), [flat]), probes=8, steps=60, rng=0)
    print(f"nodes and weights differ from PyTorch's by at most {np.abs(s.nodes - twin.nodes).max():.1e}, ", end="")
    print(f"{np.abs(s.weights - twin.weights).max():.1e}")

# %%
# What it costs
# -------------
# A product as a multiple of a gradient pass.


def seconds(call, rounds=9):
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return float(np.median(times[1:]))


base = seconds(lambda: gradient().numpy())
for width in (1, 8):
    X = np.random.default_rng(1).standard_normal((n, width))
    print(f"{width} at once: {seconds(lambda X=X: product(X)) / base / width:.2f} gradients per column")
