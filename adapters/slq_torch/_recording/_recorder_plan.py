"""What recording a training will cost, from one or a few records that were measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Cost(NamedTuple):
    """What one record took."""

    products: float
    seconds: float


@dataclass(frozen=True, slots=True, repr=False)
class RecorderPlan:
    """The predicted cost of a `Recorder` over a training. Prints as a table.

    Attributes
    ----------
    records : int
        How many.
    products : int
        Columns multiplied in all.
    seconds : float
        In all.
    seconds_per_record : float
        Of one after the first.
    share : float or None
        Seconds of recording per second of training, where that was told.
    """

    records: int
    products: int
    seconds: float
    seconds_per_record: float
    share: float | None = None

    def __repr__(self) -> str:
        rows = [
            ("records", f"{self.records}"),
            ("products", f"{self.products:,}".replace(",", " ")),
            ("time", f"{self.seconds:.3g} s ({self.seconds_per_record:.2g} s per record)"),
        ]
        if self.share is not None:
            rows.append(("", f"{self.share:.0%} of the time of the training"))
        return "\n".join(f"{name:<10} {text}" for name, text in rows)


def planned(
    records: int, costs: Sequence[Cost], *, fresh: bool, training: float | None, budget: float | None
) -> RecorderPlan:
    """Put together a plan.

    Parameters
    ----------
    records : int
        That are due.
    costs : sequence of Cost
        Of the last records; or, if `fresh`, of one from nothing and one from the eigenvectors of the same matrix. The
        first of these has also taken what only first calls take: seconds are those of the second, by products.
    fresh : bool
        Whether that is so. A matrix that has moved costs between the two: the mean is planned with.
    training : float, optional
        Seconds.
    budget : float, optional
        Largest share of them.
    """
    if fresh and costs[-1].products:
        rate = costs[-1].seconds / costs[-1].products
        costs = [Cost(cost.products, cost.products * rate) for cost in costs]
    each = Cost(*(sum(column) / len(costs) for column in zip(*costs, strict=True)))
    first = costs[0] if fresh else each
    if budget is not None and training is not None:
        room = (budget * training - first.seconds) / max(each.seconds, 1e-9)
        records = min(records, 1 + max(int(room), 0))
    more = max(records - 1, 0)
    products, seconds = (f * (records > 0) + more * e for f, e in zip(first, each, strict=True))
    share = seconds / training if training else None
    return RecorderPlan(records, round(products), seconds, each.seconds, share)
