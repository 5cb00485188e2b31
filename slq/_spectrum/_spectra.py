"""Several spectra by name: a mapping that prints as a table, one row per operator, and draws as small multiples.

What the rows tell is asked of each `Spectrum`; nothing is estimated here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from slq._estimates import ErrorParts, Estimate, format_with_error
from slq._spectrum._measurements import negative_mass
from slq._spectrum._spectrum import Spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Column heads; a bound stands beside its value, to the left of its column, everything else but the name to the right.
_HEADS = ("", "size", "smallest", "", "largest", "", "trace", "below zero", "outliers")
_LEFT = (0, 3, 5)
# Names are cut in the middle to this width: their ends tell them apart.
_NAME = 34
# Digits of extreme eigenvalues: so many as show that the bound is another number.
_DIGITS = (3, 4)
# An error below this share of the value is not printed: it would be beyond the digits of everything else.
_EXACT = 1e-5
# A share with a larger error than this, in per cent, is printed as its interval.
_VAGUE = 10.0


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Spectra(Mapping[str, Spectrum]):
    """The spectra of several operators, such as the layers of a network. Made by `slq.spectra`; prints as a table.

    Attributes
    ----------
    spectra : Mapping
        Name -> Spectrum, in the order given.
    passes : int
        Joint products computed; single products where the operators were run one by one.
    seconds : float
        Wall time of all runs together.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> s = slq.spectra({"a": np.diag([1.0, 2.0]), "b": np.diag([-1.0, 3.0, 5.0])}, rng=0)
    >>> list(s), s["b"].n
    (['a', 'b'], 3)
    >>> s.rows[1]["largest"].value
    5.0
    """

    spectra: Mapping[str, Spectrum]
    passes: int
    seconds: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "spectra", MappingProxyType(dict(self.spectra)))

    def __getitem__(self, name: str) -> Spectrum:
        return self.spectra[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.spectra)

    def __len__(self) -> int:
        return len(self.spectra)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per operator, in the columns of the table.

        `name`, `size`, `outliers` (their number), `status`, and as Estimates `smallest` and `largest` eigenvalue,
        `trace`, and `negative`, the share of eigenvalues below zero by more than the noise floor.
        """
        return [_row(name, s) for name, s in self.items()]

    def plot(self, figure: Any = None, **style: Any) -> dict[str, Axes]:
        """Draw all densities as small multiples and return their axes by name; see `slq.plot.multiples`."""
        from slq import plot

        return plot.multiples(self, figure, **style)

    def __repr__(self) -> str:
        table = [_HEADS, *(_cells(row) for row in self.rows)]
        widths = [max(len(cells[i]) for cells in table) for i in range(len(_HEADS))]
        lines = ["".join(_padded(i, cell, widths[i]) for i, cell in enumerate(cells)) for cells in table]
        return "\n".join([_title(self), *(line.rstrip() for line in lines), *_footer(self)])


def _padded(column: int, cell: str, width: int) -> str:
    gap = 0 if column == 0 or width == 0 else 1 if column in _LEFT else 2
    return " " * gap + (cell.ljust(width) if column in _LEFT else cell.rjust(width))


def _row(name: str, s: Spectrum) -> dict[str, Any]:
    low, high = s.edges
    first, last = float(s.nodes.min()), float(s.nodes.max())
    return {
        "name": name,
        "size": s.n,
        "smallest": _edge(s, first, min(low, first), first + s.noise),
        "largest": _edge(s, last, last - s.noise, max(high, last)),
        "trace": s.trace(),
        "negative": negative_mass(s),
        "outliers": round(float(s.outliers.multiplicities.sum())),
        "status": s.status,
    }


def _edge(s: Spectrum, value: float, low: float, high: float) -> Estimate:
    """Return an extreme eigenvalue: at least as far out as the outermost node, not beyond the certified edge."""
    parts = ErrorParts(0.0, max(value - low, high - value) - s.noise, s.noise)
    return Estimate(value, low, high, parts, s.confidence, "certified" if s.certified else "estimate")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        _shortened(row["name"]),
        f"{row['size']:,}".replace(",", " "),
        *_bounded(row["smallest"], row["smallest"].low, "≥"),
        *_bounded(row["largest"], row["largest"].high, "≤"),
        _with_error(row["trace"]),
        _percent(row["negative"]),
        str(row["outliers"]),
    )


def _bounded(estimate: Estimate, bound: float, sign: str) -> tuple[str, str]:
    """Write the outermost node, and how far out the eigenvalue may be where that shows in the digits."""
    value = estimate.value
    for digits in _DIGITS:
        if f"{value:.{digits}g}" != f"{bound:.{digits}g}":
            return f"{value:.{digits}g}", f"({sign} {_outward(bound, digits, up=bound > value)})"
    return f"{value:.{_DIGITS[-1]}g}", ""


def _outward(x: float, digits: int, *, up: bool) -> str:
    """Write a bound in so many digits, rounded away from what it bounds."""
    if x == 0 or not np.isfinite(x):
        return f"{x:.{digits}g}"
    unit = 10.0 ** (np.floor(np.log10(abs(x))) - digits + 1)
    return f"{(np.ceil(x / unit) if up else np.floor(x / unit)) * unit:.{digits}g}"


def _with_error(estimate: Estimate) -> str:
    half = max(estimate.value - estimate.low, estimate.high - estimate.value)
    if half <= _EXACT * abs(estimate.value) or not np.isfinite(half):
        return f"{estimate.value:.5g}"
    return format_with_error(estimate.value, half) if 1e-7 < half < 1e6 else f"{estimate.value:.3g} ± {half:.1g}"


def _percent(estimate: Estimate) -> str:
    """Write a share in per cent; as the interval alone where that is most of what is known."""
    value, low, high = (100 * share for share in (estimate.value, estimate.low, estimate.high))
    half = max(value - low, high - value)
    if half > _VAGUE:
        return f"{np.floor(low):.0f} … {np.ceil(high):.0f} %"
    return f"{value:.0f} ± {np.ceil(half):.0f} %" if half > 0.5 else f"{value:.1f} %"


def _shortened(name: str) -> str:
    if len(name) <= _NAME:
        return name
    kept = (_NAME - 1) // 2
    return f"{name[:kept]}…{name[-(_NAME - 1 - kept) :]}"


def _title(s: Spectra) -> str:
    facts = {key: {str(one.metadata.get(key, "")) for one in s.values()} for key in ("kind", "dtype", "device")}
    common = " · ".join(values.pop() for values in facts.values() if len(values) == 1 and "" not in values)
    products = sum(one.products for one in s.values())
    run = f"{products} products" + (f" in {s.passes} passes" if s.passes < products else "") + f", {s.seconds:.3g} s"
    return " · ".join(part for part in (f"Spectra of {len(s)} operators", common, run) if part)


def _footer(s: Spectra) -> list[str]:
    """Say how the runs ended, and what was wrong with any of them."""
    ends: dict[str, list[str]] = {}
    for name, one in s.items():
        ends.setdefault(one.status, []).append(name)
    lines = [f"{_listed(names, len(s))}: {status}" for status, names in ends.items()]
    lines += [f"warning, {name}: {text}" for name, one in s.items() for text in one.warnings]
    if reasons := dict.fromkeys(_reason(one) for one in s.values() if not one.certified):
        lines.append(f"bounds are estimates: {', or '.join(reasons)}")
    return lines


def _reason(s: Spectrum) -> str:
    if s.reorth == "none":
        return "no re-orthogonalisation"
    return "the operator is not exact" if s.warnings else "one probe takes isolated eigenvalues for simple"


def _listed(names: list[str], total: int) -> str:
    if len(names) == total:
        return "all"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
