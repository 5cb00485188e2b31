"""Numbers and pictures of a record to what keeps them: objects with `add_scalar` and `add_figure`, or with `log`."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

_PREFIX = "hessian/"


def checked_loggers(log_to: Any) -> list[Any]:
    """Return a list of loggers, or refuse what is none."""
    given = [] if log_to is None else list(log_to) if isinstance(log_to, Iterable) else [log_to]
    for logger in given:
        if not (hasattr(logger, "add_scalar") or callable(getattr(logger, "log", None))):
            msg = (
                f"`log_to` must have `add_scalar` (TensorBoard's SummaryWriter) or `log` (a run of W&B, trackio), got "
                f"{type(logger).__name__}."
            )
            raise TypeError(msg)
    return given


def log(loggers: Iterable[Any], step: int, scalars: Mapping[str, float], figure: Any = None) -> None:
    """Give one record to each logger; numbers that are not finite are left out."""
    named = {_PREFIX + name: float(value) for name, value in scalars.items() if math.isfinite(value)}
    for logger in loggers:
        if hasattr(logger, "add_scalar"):
            for name, value in named.items():
                logger.add_scalar(name, value, step)
            if figure is not None and hasattr(logger, "add_figure"):
                logger.add_figure(_PREFIX + "evolution", figure, step)
        else:
            logger.log(named | ({} if figure is None else {_PREFIX + "evolution": figure}), step=step)


def evolution_figure(history: Any) -> Any:
    """Draw the evolution so far on a figure that belongs to no window; None where there is nothing to draw yet."""
    import slq

    if all(spectrum is None for spectrum in history.spectra):
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    slq.plot.evolution(history, figure.add_subplot())
    return figure
