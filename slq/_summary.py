"""How a Spectrum prints: at most ten lines that say what is known, how well, and what would sharpen it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from slq._spectrum import Spectrum

_BLOCKS = " ▁▂▃▄▅▆▇█"
_WIDTH = 48


def text(s: Spectrum) -> str:
    """Return the table that `print(spectrum)` shows."""
    facts = " · ".join(str(s.metadata[key]) for key in ("kind", "dtype", "device") if s.metadata.get(key))
    trace, (low, high), budget = s.trace(), s.edges, s.error
    total = f"{budget.total:.2%} of the {s.coordinate().scale} range at {s.confidence * 100:g} %"
    parts = f"steps {budget.quadrature:.2%}, probes {budget.sampling:.2%}, rounding {budget.numeric:.1g}"
    lines = [
        f"Spectrum of a {s.n:,} × {s.n:,} operator".replace(",", " ") + (f" · {facts}" if facts else ""),
        f"  run        {s.probes} probe{'s' * (s.probes > 1)} × {s.steps} steps = {s.products} products · "
        f"{s.seconds:.3g} s · {s.status}",
        f"  edges      all eigenvalues in [{low:.6g}, {high:.6g}]",
        f"  outliers   {_outliers(s)}",
        f"  trace      {trace}",
        f"  error      {total} ({parts}); {budget.advice}",
        f"  claims     {_claims(s)}",
        f"  density    {sparkline(s)}  {_axis(s)}",
    ]
    return "\n".join(lines + [f"  warning    {warning}" for warning in s.warnings])


def sparkline(s: Spectrum, width: int = _WIDTH) -> str:
    """Return the density as one line of block characters; heights go with the square root, so that tails show."""
    coordinate = s.coordinate()
    y = coordinate.forward(np.array([s.nodes.min(), s.nodes.max()]))
    if y[1] <= y[0]:
        return "█"
    edges = coordinate.inverse(np.linspace(y[0], y[1], width + 1))
    edges[0] = np.nextafter(edges[0], -np.inf)
    mass = np.maximum(np.diff(s.cdf(edges).value), 0.0)
    heights = np.sqrt(mass / (mass.max() or 1.0))
    return "".join(_BLOCKS[int(np.ceil(h * 8 - 1e-9))] for h in heights)


def _outliers(s: Spectrum) -> str:
    outliers = s.outliers
    if len(outliers) == 0:
        return "none stands apart"
    shown = ", ".join(
        f"{v:.4g}" + (f" (×{m:.0f})" if m >= 1.5 else "")
        for v, m in list(zip(outliers.values, outliers.multiplicities, strict=True))[:5]
    )
    more = ", …" if len(outliers) > 5 else ""
    assumed = "" if outliers.verified else " (each taken for simple: one probe cannot tell)"
    return f"{len(outliers)}: {shown}{more}{assumed}"


def _claims(s: Spectrum) -> str:
    if s.certified:
        return "certified: intervals follow from theorems, see .error and docs"
    reason = "no re-orthogonalisation" if s.reorth == "none" else "the operator is not exact, see warning"
    return f"estimates ({reason})"


def _axis(s: Spectrum) -> str:
    scale = s.coordinate()
    name = "linear" if scale.scale == "linear" else f"asinh, linear below {scale.unit:.2g}"
    return f"{s.nodes.min():.3g} … {s.nodes.max():.3g} ({name})"
