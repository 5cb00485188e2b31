"""What in a model or a loader can make two passes over the data disagree.

Found by looking, never by running: modules that draw random numbers, batch statistics, samplers.
"""

from typing import Any

from torch.nn import Module
from torch.nn.modules.batchnorm import _BatchNorm

_RATES = ("p", "drop_prob", "drop_rate")


def active_dropout(model: Module | None) -> list[str]:
    """Describe the modules that would drop something at random, torch's own and those named alike."""
    found = []
    for name, module in _training(model):
        names = _RATES if "drop" in type(module).__name__.lower() else ("dropout",)
        rates = [rate for rate in (getattr(module, a, None) for a in names) if _positive(rate)]
        for rate in rates[:1]:
            found.append(f"{name!r} ({type(module).__name__}, rate {rate:g})")
    return found


def active_batch_norm(model: Module | None) -> list[str]:
    """Describe the modules that normalise by the statistics of the batch at hand."""
    return [
        f"{name!r} ({type(module).__name__})" for name, module in _training(model) if isinstance(module, _BatchNorm)
    ]


def random_sampler(data: Any) -> str | None:
    """Name the sampler of a loader if it draws or shuffles."""
    for loader in (data, getattr(data, "batch_sampler", None)):
        sampler = getattr(loader, "sampler", None)
        if "Random" in type(sampler).__name__ or getattr(sampler, "shuffle", False) is True:
            return type(sampler).__name__
    return None


def causes(model: Module | None, data: Any, *, modified: bool) -> str:
    """Say what was found that explains two different passes, most likely first."""
    found = []
    if modified:
        found.append(
            "the parameters were changed since the first product (an optimiser step?): make a new "
            "operator for the new parameters"
        )
    if sampler := random_sampler(data):
        found.append(f"`data` has a {sampler} (shuffle=True): use a loader with shuffle=False")
    if dropout := active_dropout(model):
        found.append(f"dropout is active in {_listed(dropout)}: call model.eval()")
    if norms := active_batch_norm(model):
        found.append(
            f"BatchNorm is in train mode in {_listed(norms)}, so each loss depends on how the samples "
            "are batched: call model.eval(), or keep the batches fixed"
        )
    if not found:
        return (
            "Nothing suspicious was found in the model or the loader. Look for random augmentation in "
            "the data set, F.dropout without training=self.training, and random numbers in `loss`."
        )
    return "Found: " + "; ".join(found) + "."


def dropout_refusal(model: Module | None, mode: str) -> str | None:
    """Word the refusal of a model whose every product would be of another matrix, None if it is sound."""
    if not (dropout := active_dropout(model)):
        return None
    advice = (
        'Give mode="eval", which holds during products only, or call .eval() on the model or on these modules.'
        if mode == "as-is"
        else 'Give mode="eval", or set their rates to 0 and leave the rest in train mode.'
    )
    return f"`model` has active dropout in {_listed(dropout)}, so every product would see another matrix. {advice}"


def _training(model: Module | None) -> list[tuple[str, Module]]:
    return [] if model is None else [(n, m) for n, m in model.named_modules() if m.training]


def _positive(rate: Any) -> bool:
    return isinstance(rate, int | float) and not isinstance(rate, bool) and rate > 0


def _listed(items: list[str], most: int = 5) -> str:
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")
