"""Fused attention just works; what has no second derivative at all is named with its module."""

import pytest
import slq_torch
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel


class Attention(nn.Module):
    """Self-attention by whatever kernel torch chooses, or by one that is asked for."""

    def __init__(self, kernel=None):
        super().__init__()
        self.inner, self.outer, self.kernel = nn.Linear(1, 12), nn.Linear(4, 2), kernel

    def forward(self, x):
        q, k, v = self.inner(x[..., None]).unflatten(-1, (6, 2)).transpose(1, 2).chunk(3, dim=1)
        if self.kernel is None:
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            with sdpa_kernel(self.kernel):
                y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.outer(y.transpose(1, 2).flatten(2)).mean(dim=1)


@pytest.mark.parametrize("strategy", ["auto", "graph", "graph-vmap", "forward-over-reverse", "linearize"])
def test_plain_attention_works_and_the_engine_says_how(strategy, kit):
    batch = kit.samples(5)
    fused, plain = kit.make(Attention), kit.make(lambda: Attention(SDPBackend.MATH))
    enabled = torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled()
    H = slq_torch.hessian(fused, kit.mean_loss, batch, strategy=strategy)
    X = kit.block(H.shape[0], 2)

    kit.assert_close(H.matmat(X), kit.dense(plain, kit.mean_loss, batch) @ X)
    assert ["math kernel" in note for note in H.engine.notes] == [True]
    assert "math kernel" in H.metadata["engine"]["notes"][0]
    assert (torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled()) == enabled


def test_a_kernel_that_the_model_insists_on_is_named_with_its_module(kit):
    model = nn.Sequential(nn.Identity(), kit.make(lambda: Attention(SDPBackend.FLASH_ATTENTION)))
    H = slq_torch.hessian(model, kit.mean_loss, kit.samples(5))

    with pytest.raises(NotImplementedError, match=r"attention\S* \(in 1 \(Attention\)\)") as caught:
        kit.matrix(H)
    assert 'strategy="finite-difference"' in str(caught.value)
    assert "sdpa_kernel" in str(caught.value)


def test_finite_differences_take_fused_kernels(kit):
    batch = kit.samples(5)
    fused, plain = kit.make(lambda: Attention(SDPBackend.FLASH_ATTENTION)), kit.make(lambda: Attention(SDPBackend.MATH))
    H = slq_torch.hessian(fused, kit.mean_loss, batch, strategy="finite-difference")
    X = kit.block(H.shape[0], 2)

    kit.assert_close(H.matmat(X), kit.dense(plain, kit.mean_loss, batch) @ X, rtol=1e-7)
    assert not H.engine.notes


def test_multihead_attention_of_torch_works(kit):
    layer = lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)  # noqa: E731
    model = nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Linear(2, 4), kit.make(layer), nn.Flatten(), nn.Linear(8, 2))
    H = slq_torch.hessian(model.double(), kit.mean_loss, kit.samples(3))
    A = kit.matrix(H)

    kit.assert_close(A, A.T.contiguous())
