"""What staying orthogonal costs beside the products, whether that is worth it, and how a run tells what it chose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slq import _arrays
from slq._lanczos._lanczos import Reorth
from slq._lanczos._loss import LEAST_SHARE
from slq._run._choice import Choice

# Projections may take this many seconds in all, or this many times the products' time, before they are given up: what
# they buy is that every claim is certain.
_FREE_SECONDS, _PROJECTION_SHARE = 10.0, 3.0
# Bytes per second that projections read where it was not measured: two cores' memory, files, and a device's memory.
_HOST_SPEED, _FILE_SPEED, _DEVICE_SPEED = 8e9, 1e9, 1e12
# From so many bytes on a measured speed means something.
_ENOUGH = 50_000_000


@dataclass(frozen=True, slots=True)
class Projections:
    """What the projections of a run read, and how fast.

    Attributes
    ----------
    choice : Choice
        Policy and storage.
    n : int
        Dimension.
    dtype : dtype
        Of the vectors.
    on_host : bool
        Whether they live in the host's memory, where a second sweep is made at need only.
    """

    choice: Choice
    n: int
    dtype: Any
    on_host: bool

    @property
    def precision(self) -> str:
        """Name of the precision in which past vectors are kept."""
        return self.choice.storage.name(self.dtype)

    def size(self, probes: int, steps: int) -> float:
        """Return the bytes that so many stored vectors take."""
        return float(probes * steps * self.n * _arrays.itemsize(self.precision))

    def seconds(self, probes: int, steps: int, measured: tuple[int, float, float] | None = None) -> float:
        """Predict the time of all projections; `measured` are bytes read so far, seconds, and the share of steps."""
        bytes_read, seconds, share = measured or (0, 0.0, LEAST_SHARE if self._sparing else 1.0)
        usual = _HOST_SPEED if self.choice.storage.folder is None else _FILE_SPEED
        speed = usual if self.on_host else _DEVICE_SPEED
        if bytes_read >= _ENOUGH and seconds > 0:
            speed = bytes_read / seconds
        sweeps = share if self.on_host else 2
        return sweeps * self.size(probes, steps) * steps / speed  # a sweep reads twice what is there, half on average

    @property
    def _sparing(self) -> bool:
        """Whether vectors are projected only where they would lose their orthogonality."""
        return self.on_host and self.choice.storage.sparing and self.precision == _arrays.dtype_name(self.dtype)

    def told(self, reorth: Reorth, given_up: str, probes: int, steps: int) -> str:
        """Say how orthogonal the vectors of a run were kept, and why."""
        if reorth == "none":
            if given_up:
                return given_up
            if not self.choice.automatic:
                return "not kept orthogonal, as asked"
            room = self.choice.room * self.n * _arrays.itemsize(self.dtype)
            return f"not kept orthogonal: they would not fit into {room / 1e9:.3g} GB even in {self.precision}"
        place = "memory" if self.choice.storage.folder is None else f"files in {self.choice.storage.folder}"
        how = "orthogonal to sqrt(eps)" if self._sparing else "orthogonal"
        return f"{how}; kept in {self.precision}, {self.size(probes, steps) / 1e9:.2g} GB in {place}"


def too_slow(projections: float, products: float, *, patience: float = 1.0) -> bool:
    """Whether so many seconds of projections are too much beside so many of products."""
    return projections > patience * max(_FREE_SECONDS, _PROJECTION_SHARE * products)
