"""Watches the curvature of a network while it is trained: two lines in a training loop, and the loop goes on as it was.

When to record is said in `_schedule`, what a record holds in `_record`, and where it is kept in `_kept`.
"""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self

import numpy as np
from torch import Tensor
from torch.nn import Module

import slq
from slq_torch._curvature._arguments import Mode, check_network
from slq_torch._curvature._evaluation import fixed_batches
from slq_torch._curvature._hessian import hessian
from slq_torch._curvature._operator import CurvatureOperator
from slq_torch._model._parameters import Selection, from_model
from slq_torch._model._passes import Loss
from slq_torch._recording._kept import Kept
from slq_torch._recording._once import Once
from slq_torch._recording._record import SCALARS, Before, Measured, Settings, measure
from slq_torch._recording._recorder_plan import Cost, RecorderPlan, planned
from slq_torch._recording._schedule import Budget, Every, due_by


class Recorder:
    """Records spectrum, top eigenpairs and gradient of a model's Hessian while the model is trained.

    Call `step` in the training loop. Where a record is due, it costs some hundred gradients of the evaluation batches
    (`plan` tells); elsewhere nothing. Training does not notice: the losses are, bit for bit, those without a recorder.
    What goes wrong in a record is written into it as a note, with one warning, and training goes on; only a mistake
    that shows in the very first record is raised.

    Parameters
    ----------
    model : Module
        The network that is trained.
    loss : callable
        ``loss(model, batch)``, the mean over a batch or ``(sum, count)``, as for `hessian`.
    data : object
        Evaluation batches: one batch, a list of batches or a DataLoader. They are read once, here, and kept: a loader
        that shuffles gives the same batches at every record. All numbers and intervals are those of the Hessian on
        these samples; how far other samples would give another is not in them. Costs grow with their number.
    every : int, "log", "epoch", "demand", iterable of int or callable, default 100
        Which steps are recorded: those divisible by a number; 0, 1, 2, 3, 4, 5, 6, 8, 10, 14, ... eight per factor of
        ten; those at which `epoch` is called; none but by `record`; those listed; those for which a function is true.
    path : str or Path, optional
        Where the history is kept, an .npz file that is complete after every record. If it is there, the recorder goes
        on with it, and steps up to its last one are not recorded again. By default in memory only.
    budget : float, optional
        Records are put off while they would take more than this share of the training time, 0.05 for 5 %. The first
        record is made in any case. What is recorded then depends on the clock.
    top : int, default 10
        Number of largest eigenpairs; the number of classes, say. They are taken from the Krylov space of the spectrum,
        which goes on where they have not converged in it; copies of an eigenvalue are not looked for. 0 leaves them
        out, and what follows from them.
    energy : int, default 20
        Lanczos steps from the gradient, for the distribution of its energy over the spectrum; 0 leaves it out.
    tol : float, default 0.02
        Tolerance of the spectra, as for `slq.spectrum`. They begin with one probe where its scatter is within the
        tolerance, so that outliers are taken for simple, and with about the steps of the record before. No step is
        made to resolve single eigenvalues: that is what `top` is for.
    probes, steps : int, optional
        Fix the spectra's probes, Lanczos steps, or both.
    accuracy : float, default 1e-3
        Relative residual of the eigenpairs.
    rng : int, default 0
        Seed of the probes, the same at every record: so what changes between records is the matrix.
    batches : int, optional
        How many batches of `data` are kept; all by default.
    params : selection, optional
        Which parameters, as for `hessian`.
    mode : {"train", "eval", "as-is"}, default "train"
        In which the model is evaluated: "train" is the loss that is minimised, with BatchNorm over the evaluation
        batches; "eval" uses its running statistics, and switches dropout off.
    operator : callable, default `hessian`
        Which matrix: `ggn`, `fisher`, or a function ``(model, loss, data, *, params, mode)`` of your own.
    classes : int, optional
        Number of classes, told in pictures.
    keep_vectors : bool, default True
        Whether the last top eigenvectors are kept beside `path`, top x n numbers, so that the overlap with them is
        told also after a training was interrupted.
    log_to : object or list, optional
        Where numbers go too: anything with `add_scalar` (and `add_figure`), or with ``log(dict, step=)``.
    figures : bool, default False
        Whether the evolution so far is drawn and given to `log_to` at every record.
    **options
        For the operator, such as ``strategy="auto"``; the Hessian is multiplied by the strategy "graph" by default, so
        that a run that is repeated gives the same numbers.

    Attributes
    ----------
    history : slq.History
        All records so far. Its scalars are yours and `evaluation_loss`, `gradient_norm`, `gradient_concentration`,
        `subspace_overlap` (with the record before), `largest`, `smallest`, `trace`, `trace_ratio`, `negative_mass`,
        `outliers`, `outlier_ratio`, `products` and `seconds`; its arrays `eigenvalues` and `eigenvalue_residuals`,
        (T, top), and `gradient_nodes` and `gradient_energy`, (T, energy).

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind, or dropout is active in the mode asked for.
    BlockingIOError
        If another recorder writes to `path`.

    Notes
    -----
    Put back after every product: training flags, buffers such as BatchNorm's statistics, ``.grad``,
    ``requires_grad`` and all random states. Forward hooks of the model run as they do in training. That products
    repeat and are symmetric is tested in the first record, and in the first of another size.

    Examples
    --------
    >>> import torch, slq_torch
    >>> model = torch.nn.Linear(4, 3)
    >>> x, y = torch.randn(30, 4), torch.arange(30) % 3
    >>> def loss(model, batch):
    ...     return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> recorder = slq_torch.Recorder(model, loss, (x, y), every=5, top=2)
    >>> for step in range(11):
    ...     optimizer.zero_grad()
    ...     value = loss(model, (x, y))
    ...     value.backward()
    ...     optimizer.step()
    ...     _ = recorder.step(step, loss=value)
    >>> recorder.history.steps
    array([ 0,  5, 10])
    """

    def __init__(
        self,
        model: Module,
        loss: Loss,
        data: Any,
        *,
        every: Every = 100,
        path: str | Path | None = None,
        budget: float | None = None,
        top: int = 10,
        energy: int = 20,
        tol: float = 0.02,
        probes: int | None = None,
        steps: int | None = None,
        accuracy: float = 1e-3,
        rng: int = 0,
        batches: int | None = None,
        params: Selection | None = None,
        mode: Mode = "train",
        operator: Callable[..., CurvatureOperator] = hessian,
        classes: int | None = None,
        keep_vectors: bool = True,
        log_to: Any = None,
        figures: bool = False,
        **options: Any,
    ) -> None:
        check_network(model, loss, data)
        for name, value in (("top", top), ("energy", energy)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                msg = f"`{name}` must be a number >= 0, got {value!r}."
                raise ValueError(msg)
        self._every, self._due, self._budget = every, due_by(every), Budget(budget)
        self._settings = Settings(top, energy, accuracy, {"tol": tol, "probes": probes, "steps": steps, "rng": rng})
        if operator is hessian:
            options = {"strategy": "graph"} | options
        first = from_model(model, params).tensors[0]
        kept = fixed_batches(data, batches, first)
        self._make = lambda: operator(model, loss, kept, params=params, mode=mode, **options)
        _refuse_mistakes(self._make, mode)
        facts = {"matrix": getattr(operator, "__name__", "operator"), "mode": mode, "top": top, "classes": classes}
        self._once = Once()
        vectors = keep_vectors and top > 0
        self._kept = Kept(path, facts, vectors=vectors, log_to=log_to, figures=figures, once=self._once)
        self._latest: int | None = None

    @property
    def history(self) -> slq.History:
        """All records so far."""
        return self._kept.history

    def step(self, step: int, /, **scalars: float | Tensor) -> bool:
        """Say that a training step is done; record if it is due, not recorded yet, and within the budget.

        Parameters
        ----------
        step : int
            The step's number since the start of the training, over all epochs.
        **scalars : float or Tensor
            Numbers to be kept with the record, such as ``loss=`` and ``lr=``; looked at only if there is one.

        Returns
        -------
        bool
            Whether a record was made.

        Raises
        ------
        ValueError
            If a scalar has a name that the recorder uses itself.
        """
        self._check(scalars)
        if self._latest is not None and step < self._latest:
            advice = "Give the number since the start of the training, not of an epoch."
            self._once.warn("back", f"The step went back from {self._latest} to {step}. {advice}")
        self._latest = step
        return self._due(step) and self._budget.allows and self._record(step, scalars)

    def epoch(self, step: int, /, **scalars: float | Tensor) -> bool:
        """Say that an epoch is done; record if ``every="epoch"``. Arguments as for `step`."""
        self._check(scalars)
        return self._every == "epoch" and self._budget.allows and self._record(step, scalars)

    def record(self, step: int, /, **scalars: float | Tensor) -> bool:
        """Record now, whatever is due. Arguments as for `step`; False where the step has a record already."""
        self._check(scalars)
        return self._record(step, scalars)

    def plan(
        self, steps: int | None = None, /, *, records: int | None = None, seconds_per_step: float | None = None
    ) -> RecorderPlan:
        """Predict what recording a whole training costs.

        Measures the model as it is, twice, from nothing and from what that found, which takes as long as two records;
        unless records were made already: then the last of them tell. What was measured is thrown away. A record that
        began from it would depend on whether somebody had asked for a plan, so that a run that is repeated without
        would give other numbers; and it is of the parameters before the training, where no record is due.

        Parameters
        ----------
        steps : int, optional
            Length of the training, if the schedule goes by steps.
        records : int, optional
            How many records there will be, if it does not.
        seconds_per_step : float, optional
            Of the training alone, for `RecorderPlan.share`, and for a `budget` to be counted with.

        Returns
        -------
        RecorderPlan
            Records, products, seconds; prints as a table.

        Raises
        ------
        ValueError
            If neither `steps` nor `records` tells how many records there will be.
        """
        if records is None:
            if steps is None or self._every in ("epoch", "demand"):
                msg = "`records` is missing: the schedule does not tell how many there will be. Give plan(records=...)."
                raise ValueError(msg)
            records = sum(self._due(step) for step in range(steps))
        fresh = len(self.history) == 0
        costs = self._measured_twice() if fresh else self._spent()
        training = None if steps is None or seconds_per_step is None else steps * seconds_per_step
        return planned(records, costs, fresh=fresh, training=training, budget=self._budget.share)

    def close(self) -> None:
        """Let others write to the file. Can be called twice; the history stays."""
        self._kept.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- inside -------------------------------------------------------------------------------------------------

    def _record(self, step: int, scalars: dict[str, Any]) -> bool:
        if len(self.history) and step <= self.history.steps[-1]:
            return False
        own = {name: float(v.detach() if isinstance(v, Tensor) else v) for name, v in scalars.items()}
        with self._budget.spending():
            began = perf_counter()
            found = self._measured(step)
            self._kept.append(step, found, own | found.scalars | {"seconds": perf_counter() - began})
        return True

    def _measured(self, step: int) -> Measured:
        """Measure, or say why that is not possible."""
        try:
            return measure(self._make, self._settings, self._kept.before)
        except Exception as error:
            if len(self.history) == 0:
                raise
            note = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            self._once.warn("failed", f"No spectrum at step {step}, training goes on. {note}")
            return Measured(notes=(note,))

    def _measured_twice(self) -> list[Cost]:
        """Measure from nothing and from what that found, and keep the costs alone."""
        costs, before = list[Cost](), Before()
        for _ in range(2):
            began = perf_counter()
            found = measure(self._make, self._settings, before)
            costs.append(Cost(found.scalars.get("products", 0.0), perf_counter() - began))
            before = Before(found.vectors, found.spectrum)
        return costs

    def _spent(self) -> list[Cost]:
        """Return what the last three records cost; one that failed took no products."""
        none = np.zeros(len(self.history))
        columns = (np.nan_to_num(self.history.scalars.get(name, none))[-3:] for name in ("products", "seconds"))
        return [Cost(*pair) for pair in zip(*columns, strict=True)]

    def _check(self, scalars: dict[str, Any]) -> None:
        if taken := scalars.keys() & set(SCALARS):
            msg = f"`{sorted(taken)[0]}` is a number that the recorder keeps itself. Give yours another name."
            raise ValueError(msg)


def _refuse_mistakes(make: Callable[[], CurvatureOperator], mode: Mode) -> None:
    """Make the operator once, so that what is wrong with the arguments shows before the training begins."""
    try:
        make()
    except ValueError as error:
        if mode != "train" or "ropout" not in str(error):
            raise
        msg = f'With `mode` "train", dropout makes every product see another matrix. Give mode="eval". [{error}]'
        raise ValueError(msg) from error
