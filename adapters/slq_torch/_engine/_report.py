"""What the engine of products chose, and why: `CurvatureOperator.engine`."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Engine:
    """How products are computed, as far as it has been decided.

    Attributes
    ----------
    strategies : dict of int to str
        By the number of columns: the strategy in use.
    seconds : dict of str to dict of int to float
        By strategy and number of columns: seconds of one product with the first batch, as measured on trial.
    disagreement : dict of str to float
        By strategy: largest relative difference to the way that the others are held against, the double backward.
    reasons : dict of str to str
        By strategy: why it is not used.
    held : int
        Batches whose graph is kept between products.
    graph_bytes : int or None
        What the graph of one batch holds, the largest that was met; None before the first product.
    notes : tuple of str
        Kernels that were exchanged, and what was done when memory ran out.
    """

    strategies: dict[int, str] = field(default_factory=dict)
    seconds: dict[str, dict[int, float]] = field(default_factory=dict)
    disagreement: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    held: int = 0
    graph_bytes: int | None = None
    notes: tuple[str, ...] = ()

    def decided(self, later: Any) -> bool:
        """Whether nothing was tried, exchanged or given up between this and a later report."""
        return all(getattr(self, name) == getattr(later, name) for name in ("seconds", "reasons", "notes"))

    @property
    def facts(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {
            "strategies": {str(width): name for width, name in self.strategies.items()},
            "disagreement": dict(self.disagreement),
            "reasons": dict(self.reasons),
            "held_batches": self.held,
            "graph_bytes": self.graph_bytes,
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        lines = [f"Engine({self.held} batches held)" if self.strategies else "Engine(no product yet)"]
        for width, name in sorted(self.strategies.items()):
            timed = sorted((times[width], other) for other, times in self.seconds.items() if width in times)
            measured = ", ".join(f"{other} {seconds:.3g} s" for seconds, other in timed)
            lines.append(f"  {width} column{'s' * (width > 1)}: {name}" + (f" ({measured})" if measured else ""))
        lines += [f"  agrees with graph to {value:.1e}: {name}" for name, value in self.disagreement.items()]
        lines += [f"  not {name}: {reason}" for name, reason in self.reasons.items()]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])
