"""Arguments -> a session that is ready to run: what they mean, and what can be decided before the first product."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from slq import _arrays
from slq._files._store import CHECKPOINT
from slq._lanczos import _probes
from slq._lanczos._basis import Precision
from slq._lanczos._probes import Kind, Seed
from slq._lanczos._record import Past
from slq._operators._hermitian import real_form
from slq._operators._operators import Operator, as_operator
from slq._run import _past
from slq._run._checkpoint import Checkpoint
from slq._run._checkpoint_shards import ShardedCheckpoint
from slq._run._choice import PRECISIONS, Deflate, choose
from slq._run._session import Callback, Session
from slq._spectrum._spectrum import Spectrum


def open_session(
    A: Any,
    /,
    *,
    probes: int | None = None,
    steps: int | None = None,
    first: int | None = None,
    rng: Seed = None,
    kind: Kind = "sphere",
    reorth: Literal["auto", "full", "none"] = "auto",
    basis: Precision | Literal["auto"] = "auto",
    scratch: str | Path | None = None,
    dtype: Any = None,
    batch: int | Literal["auto"] = "auto",
    deflate: Deflate = "auto",
    confidence: float = 0.95,
    max_products: int | None = None,
    memory: float | None = None,
    progress: bool = False,
    callback: Callback | None = None,
    before: Spectrum | None = None,
    patience: float = 1.0,
    checkpoint: str | Path | None = None,
    timeout: float | None = None,
    goal: Mapping[str, Any] | None = None,
    begin: int = 0,
    test: bool = True,
) -> Session:
    """Check the arguments of `spectrum` and decide what can be decided before the first product.

    `first` is the number of probes to begin with where `probes` leaves it open; `patience` scales what staying
    orthogonal may cost; `goal` holds what else the result depends on, for the checkpoint; `begin` is the number of the
    first probe, where other processes run those before it; `test` says whether products are tested for symmetry and
    repeatability.
    """
    _validate(
        probes=probes,
        steps=steps,
        confidence=confidence,
        batch=batch,
        max_products=max_products,
        reorth=reorth,
        basis=basis,
        kind=kind,
        deflate=deflate,
        memory=memory,
    )
    operator = real_form(A if timeout is None else as_operator(A, timeout=timeout))
    vectors = dtype_of_vectors(operator, dtype)
    on_host = _arrays.host_view(operator.xp.zeros(1, dtype=vectors, device=operator.device)) is not None
    shards, saved = operator.shards.checked(), None
    seed = _probes.shared_seed(rng, shards)
    free = _arrays.free_memory(operator.xp, operator.device) / 2 if memory is None else memory
    room = int(shards.total(free)[0] // (operator.n * _arrays.itemsize(vectors)))
    with ExitStack() as stack:
        if checkpoint is not None:
            options = {
                **(goal or {}), "slq": version("slq"), "n": operator.n,
                "dtype of the operator": _arrays.dtype_name(operator.dtype), "dtype": _arrays.dtype_name(vectors),
                "probes": probes, "steps": steps, "kind": kind, "reorth": reorth,
                "basis": basis, "batch": batch, "deflate": deflate, "confidence": confidence,
                "max_products": max_products, "memory": memory,
            }  # fmt: skip
            saved = (
                Checkpoint(Path(checkpoint), options, CHECKPOINT, _past.unpacked)
                if shards.whole
                else ShardedCheckpoint(Path(checkpoint), options, CHECKPOINT, _past.unpacked, _past.axis, shards)
            )
            stack.callback(saved.close)
            seed = saved.known("rng", seed, free=rng is None)
            room = saved.known("room", room, free=True)
        choice = choose(
            operator.n,
            probes=probes,
            steps=steps,
            first=first,
            reorth=reorth,
            precisions=precisions(basis, vectors, operator.xp),
            scratch=Path(scratch or tempfile.gettempdir()) if on_host and shards.whole else None,
            itemsize=_arrays.itemsize(vectors),
            batch=batch,
            deflate=deflate if operator.deflates else "none",
            room=room,
        )
        session = Session(
            operator,
            choice,
            seed=seed,
            kind=kind,
            dtype=vectors,
            confidence=confidence,
            callback=callback,
            max_products=max_products,
            show_progress=progress,
            before=before,
            patience=patience,
            checkpoint=saved,
            begin=begin,
            test=test,
        )
        if saved is not None and saved.content is not None:
            _recognise(saved, saved.content, session)
        stack.pop_all()
    return session


def _recognise(file: Checkpoint[Past], past: Past, session: Session) -> None:
    """Refuse another operator than that of the file, by one product with the first probe or unit vector."""
    if past.records:
        first = past.records[0]
        alpha, beta = (float(x) * first.scale for x in first.rows[0][0, :2])
        change = session.runs.again(1, alpha, beta)[1]
    else:
        change = session.change_of_columns()
    file.recognise(change, max([session.operator.noise, *(seen[1] for seen in past.tests)]))


def precisions(basis: Precision | Literal["auto"], dtype: Any, xp: Any) -> Sequence[Precision]:
    """Return the precisions that past vectors of a dtype may be kept in, the longest first."""
    own = _arrays.itemsize(dtype)
    known: list[Precision] = [name for name in PRECISIONS if np.dtype(name).itemsize <= own and hasattr(xp, name)]
    if basis == "auto":
        return known
    return [basis] if np.dtype(basis).itemsize <= own else known[:1]


def validate_tolerance(tol: float) -> None:
    """Refuse tolerances that are no share of a range."""
    if not 0 < tol < 1:
        msg = f"`tol` must lie strictly between 0 and 1, got {tol}: it is a share of the spectrum's range."
        raise ValueError(msg)


def dtype_of_vectors(operator: Operator, dtype: Any) -> Any:
    """Return the dtype of Krylov vectors: the one asked for, or the operator's; at least float32."""
    if dtype is None:
        return _arrays.working_dtype(operator.dtype, operator.xp)
    name = _arrays.dtype_name(dtype)
    if name not in ("float32", "float64"):
        msg = f"`dtype` must be float32 or float64, got {name}: it is that of the Krylov vectors."
        raise ValueError(msg)
    longest = _arrays.dtype_name(_arrays.accumulator_dtype(operator.xp, operator.device))
    if name == "float64" and longest != name:
        hint = " Enable it by jax.config.update('jax_enable_x64', True)." if _arrays.is_jax(operator.xp) else ""
        msg = f"`dtype` is float64, but device {operator.device} has no floats longer than {longest}.{hint}"
        raise ValueError(msg)
    return _arrays.working_dtype(dtype, operator.xp)


def _validate(
    *,
    probes: int | None,
    steps: int | None,
    confidence: float,
    batch: int | str,
    max_products: int | None,
    reorth: str,
    basis: str,
    kind: str,
    deflate: str,
    memory: float | None,
) -> None:
    if not 0.5 <= confidence < 1:
        hint = f" Did you mean {confidence / 100:g}?" if 50 <= confidence < 100 else ""
        msg = f"`confidence` must lie in [0.5, 1), got {confidence}.{hint}"
        raise ValueError(msg)
    for name, value in (("probes", probes), ("steps", steps), ("batch", batch), ("max_products", max_products)):
        if value is None or value == "auto":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            msg = f"`{name}` must be an integer, got {value!r}."
            raise TypeError(msg)
        if value < 1:
            msg = f"`{name}` must be at least 1, got {value}."
            raise ValueError(msg)
    for name, value, allowed in (
        ("reorth", reorth, ("auto", "full", "none")),
        ("basis", basis, ("auto", *PRECISIONS)),
        ("kind", kind, ("sphere", "rademacher")),
        ("deflate", deflate, ("auto", "none")),
    ):
        if value not in allowed:
            msg = f"`{name}` must be one of {', '.join(map(repr, allowed))}, got {value!r}."
            raise ValueError(msg)
    if memory is not None and not memory > 0:
        msg = f"`memory` must be a positive number of bytes, got {memory}."
        raise ValueError(msg)
