"""Thin callbacks that call a recorder from the training loops of others; none of them is imported or subclassed.

Lightning, the Trainer of Hugging Face and loops of Keras' kind call their callbacks by name. Each of these answers the
names that matter and ignores all others.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from slq_torch._recording._recorder import Recorder

# What loops ask of a callback beside `on_...`.
_ALSO = ("setup", "teardown", "set_model", "set_params", "set_trainer")


def _ignored(name: str) -> Callable[..., None]:
    """Return a function that takes anything and does nothing, for a name that loops call."""
    if not (name.startswith("on_") or name in _ALSO):
        raise AttributeError(name)
    return lambda *args, **kwargs: None


def _numbers(values: Mapping[str, Any] | None) -> dict[str, float]:
    """Keep what is a number."""
    found: dict[str, float] = {}
    for name, value in (values or {}).items():
        with suppress(TypeError, ValueError, RuntimeError):
            found[str(name)] = float(value.detach() if hasattr(value, "detach") else value)
    return found


def _learning_rate(optimizers: Any) -> dict[str, float]:
    """Return {"lr": ...} of the first optimizer, nothing where there is none."""
    first = next(iter(optimizers if isinstance(optimizers, list | tuple) else [optimizers]), None)
    groups = getattr(first, "param_groups", None)
    return {"lr": float(groups[0]["lr"])} if groups else {}


class LightningCallback:
    """Calls a recorder from a Lightning Trainer, after every training batch and at the end of every epoch.

    Parameters
    ----------
    recorder : Recorder
        Of the LightningModule, with a `loss` of its own.

    Examples
    --------
    >>> import slq_torch
    >>> # trainer = Trainer(callbacks=[slq_torch.LightningCallback(recorder)])
    """

    state_key = "slq_torch.LightningCallback"

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __getattr__(self, name: str) -> Callable[..., None]:
        return _ignored(name)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the recorder's file holds all there is."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take nothing."""

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *rest: Any) -> None:
        """Record if the global step is due."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        self._recorder.step(trainer.global_step, **_numbers({"loss": loss}), **_learning_rate(trainer.optimizers))

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Record if epochs are asked for."""
        self._recorder.epoch(trainer.global_step, **_learning_rate(trainer.optimizers))

    def on_exception(self, trainer: Any, module: Any, error: BaseException) -> None:
        """Let go of the file."""
        self._recorder.close()

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        """Let go of the file."""
        self._recorder.close()


class HuggingFaceCallback:
    """Calls a recorder from a Hugging Face Trainer, after every optimiser step and at the end of every epoch.

    Parameters
    ----------
    recorder : Recorder
        Of the model, with ``loss=lambda model, batch: model(**batch).loss``.

    Examples
    --------
    >>> import slq_torch
    >>> # trainer = Trainer(model, arguments, callbacks=[slq_torch.HuggingFaceCallback(recorder)])
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __getattr__(self, name: str) -> Callable[..., None]:
        return _ignored(name)

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Record if the global step is due."""
        last = state.log_history[-1] if getattr(state, "log_history", None) else {}
        loss = {"loss": last["loss"]} if "loss" in last else {}
        self._recorder.step(state.global_step, **_numbers(loss), **_learning_rate(given.get("optimizer")))

    def on_epoch_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Record if epochs are asked for."""
        self._recorder.epoch(state.global_step, **_learning_rate(given.get("optimizer")))

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Let go of the file."""
        self._recorder.close()


class KerasCallback:
    """Calls a recorder from a loop of Keras' kind, after every batch and at the end of every epoch; counts the batches.

    Parameters
    ----------
    recorder : Recorder
        Of the torch model.

    Examples
    --------
    >>> import slq_torch
    >>> # loop.fit(x, y, callbacks=[slq_torch.KerasCallback(recorder)])
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder, self._step = recorder, 0

    def __getattr__(self, name: str) -> Callable[..., None]:
        return _ignored(name)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Record if the number of batches so far is due."""
        self._step += 1
        self._recorder.step(self._step, **_numbers(logs))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Record if epochs are asked for."""
        self._recorder.epoch(self._step, **_numbers(logs))

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Let go of the file."""
        self._recorder.close()
