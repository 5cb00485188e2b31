"""Small float64 networks and the dense Hessian that products are held against."""

from importlib.util import find_spec

import pytest

if find_spec("torch") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    import torch
    from torch import nn
    from torch.nn import functional
    from torch.nn.attention import SDPBackend, sdpa_kernel

    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):  # has no public fully_shard
        collect_ignore = ["distributed"]

    class Attention(nn.Module):
        """One causal attention layer over sequences of width 4."""

        def __init__(self):
            super().__init__()
            self.inner, self.outer = nn.Linear(4, 12), nn.Linear(4, 2)

        def forward(self, x):
            q, k, v = (t.reshape(*x.shape[:2], 2, 2).mT for t in self.inner(x).split(4, dim=-1))
            with sdpa_kernel(SDPBackend.MATH):
                y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.outer(y.mT.flatten(-2)).mean(dim=1)

    NETWORKS = {
        "linear and tanh": lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)),
        "layer norm": lambda: nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 2)),
        "group norm": lambda: nn.Sequential(nn.Linear(4, 6), nn.GroupNorm(2, 6), nn.Linear(6, 2)),
        "batch norm in eval mode": lambda: nn.Sequential(
            nn.Linear(4, 5), nn.BatchNorm1d(5).eval(), nn.Softplus(), nn.Linear(5, 2)
        ),
        "batch norm in train mode": lambda: nn.Sequential(
            nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Softplus(), nn.Linear(5, 2)
        ),
        "convolution": lambda: nn.Sequential(
            nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 2, 2, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(18, 2)
        ),
        "attention": lambda: nn.Sequential(nn.Unflatten(1, (4, 1)), nn.Linear(1, 4), Attention()),
    }

    def mean_loss(model, batch):
        """Cross entropy, averaged over the samples."""
        x, y = batch
        return functional.cross_entropy(model(x), y)

    def summed_loss(model, batch):
        """Cross entropy as (sum, count)."""
        x, y = batch
        return functional.cross_entropy(model(x), y, reduction="sum"), len(y)

    def dense_hessian(model, loss, batch, names=None):
        """Build the Hessian of one batch by torch's own functional.hessian, (n, n)."""
        everything = dict(model.named_parameters())
        names = list(everything if names is None else names)
        sizes = [everything[name].numel() for name in names]
        rest = {k: v.detach() for k, v in everything.items() if k not in names}
        rest |= {k: v.clone() for k, v in model.named_buffers()}

        def of_vector(vector):
            pieces = vector.split(sizes)
            new = {n: p.reshape(everything[n].shape) for n, p in zip(names, pieces, strict=True)}
            value = loss(lambda *x: torch.func.functional_call(model, new | rest, x), batch)
            return value[0] / value[1] if isinstance(value, tuple) else value

        start = torch.cat([everything[name].detach().reshape(-1) for name in names])
        return torch.autograd.functional.hessian(of_vector, start)

    def matrix_of(operator):
        """Multiply an operator by the identity."""
        return operator.matmat(torch.eye(operator.shape[0], dtype=operator.dtype))

    def block_of(n, width=3, dtype=torch.float64):
        """Draw a block of columns."""
        return torch.randn(n, width, dtype=dtype, generator=torch.Generator().manual_seed(0))

    def make(build, seed=0):
        """Build a network in float64 from a seed, leaving the global generator alone."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return build().double()

    def samples(count, seed=1):
        """Draw (x, y): `count` samples of width 4 in two classes."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(count, 4, generator=generator, dtype=torch.float64)
        return x, torch.randint(2, (count,), generator=generator)

    class Kit:
        """The helpers above under one name, since test modules cannot import each other."""

        networks = NETWORKS
        mean_loss = staticmethod(mean_loss)
        summed_loss = staticmethod(summed_loss)
        dense = staticmethod(dense_hessian)
        matrix = staticmethod(matrix_of)
        block = staticmethod(block_of)
        make = staticmethod(make)
        samples = staticmethod(samples)

        @staticmethod
        def assert_close(actual, expected, rtol=1e-10):
            """Assert that two tensors agree, relative to the largest entry."""
            assert actual.dtype == expected.dtype
            scale = float(torch.linalg.vector_norm(expected, torch.inf)) if expected.numel() else 0.0
            torch.testing.assert_close(actual, expected, rtol=0, atol=rtol * (scale or 1.0))

    @pytest.fixture
    def kit():
        """Give the helpers."""
        return Kit

    @pytest.fixture
    def net(kit):
        """Give a small network of linear layers and tanh."""
        return kit.make(kit.networks["linear and tanh"])

    @pytest.fixture(params=list(NETWORKS))
    def any_net(request, kit):
        """Give each of the networks in turn."""
        return kit.make(kit.networks[request.param])
