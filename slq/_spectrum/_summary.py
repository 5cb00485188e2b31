"""How a Spectrum prints: a dozen lines that say what is known, how well, and what would sharpen it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from slq._text import printable

if TYPE_CHECKING:
    from slq._spectrum._spectrum import Spectrum

_BLOCKS = " ▁▂▃▄▅▆▇█"
_WIDTH, _COLUMNS = 60, 80


def text(s: Spectrum) -> str:
    """Return the table that `print(spectrum)` shows."""
    facts = " · ".join(str(s.metadata[key]) for key in ("kind", "dtype", "device") if s.metadata.get(key))
    trace, (low, high), budget = s.trace(), s.edges, s.error
    size = f"{s.n:,} × {s.n:,}".replace(",", " ")
    rows = [
        ("run", f"{_probes(s)}, {s.products} products, {s.seconds:.3g} s"),
        ("status", s.status),
        *([("vectors", str(s.metadata.get("vectors", "nobody knows how")))] if _unusual(s) else []),
        ("edges", f"all eigenvalues in [{low:.6g}, {high:.6g}]"),
        ("outliers", _outliers(s)),
        ("trace", str(trace)),
        ("error", f"{budget.total:.2%} of the {s.coordinate().scale} range at {s.confidence * 100:g} %"),
        ("", f"steps {budget.quadrature:.2%}, probes {budget.sampling:.2%}, rounding {budget.numeric:.1g}"),
        ("", budget.advice),
        ("claims", _claims(s)),
        ("density", sparkline(s)),
        ("", _axis(s)),
        *(("warning", warning) for warning in s.warnings),
    ]
    title = f"Spectrum of a {size} operator" + (f" · {facts}" if facts else "")
    return printable("\n".join([title, *(_row(name, value) for name, value in rows)]))


def _row(name: str, value: str) -> str:
    """Return one row, wrapped under its own column where it is long."""
    return (
        textwrap.fill(
            value,
            _COLUMNS,
            initial_indent=f"  {name:<9} ",
            subsequent_indent=" " * 12,
            drop_whitespace=False,
            break_on_hyphens=False,
        )
        if len(value) > _COLUMNS - 12
        else f"  {name:<9} {value}"
    )


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


def _unusual(s: Spectrum) -> bool:
    """Whether Krylov vectors were not kept, or otherwise than they are, and nobody asked for that by name."""
    told = str(s.metadata.get("vectors", "as asked"))
    return s.drift > 0 or " files " in told or (s.reorth == "none" and "as asked" not in told)


def _probes(s: Spectrum) -> str:
    if s.kind == "exact":
        return f"all {s.n} columns"
    return f"{s.probes} probe{'s' * (s.probes > 1)} × {s.steps} steps"


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
    if s.reorth == "none":
        reason = "no re-orthogonalisation"
    elif s.warnings:
        reason = "the operator is not exact, see warning"
    else:
        reason = "edges are certain; one probe takes isolated eigenvalues for simple, two would tell"
    return f"estimates ({reason})"


def _axis(s: Spectrum) -> str:
    scale = s.coordinate()
    name = "linear" if scale.scale == "linear" else f"asinh, linear below {scale.unit:.2g}"
    return f"{s.nodes.min():.3g} … {s.nodes.max():.3g} ({name})"
