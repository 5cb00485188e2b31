"""Writes the files of the present format: `python -m tests.golden.make`. Files that are there stay as they are.

Each format that was ever released keeps its files: a result, a history, a checkpoint, with what they say in JSON.
"""

import json
import warnings
from pathlib import Path

import numpy as np

import slq
from slq._files import _store

HERE = Path(__file__).parent
MATRIX = np.diag(np.r_[9.0, -8.0, np.linspace(1.0, 2.0, 18)])
OPTIONS = {"probes": 2, "steps": 6, "rng": 2**100, "reorth": "none"}


def numbers(run):
    """Return what a run says, as JSON keeps it."""
    estimate = run.trace("exp")
    return {
        "nodes": run.nodes.tolist(),
        "weights": run.weights.tolist(),
        "edges": list(run.edges),
        "outliers": run.outliers.values.tolist(),
        "exp": [estimate.low, estimate.value, estimate.high],
        "cdf": run.cdf([0.0, 1.5]).value.tolist(),
        "seed": str(run.seed),
        "status": run.status,
        "products": run.products,
    }


def make(folder=HERE):
    """Write one file of each kind and what they say, unless those of this format are there."""
    version = f"{_store._FORMAT}"
    if (folder / f"says-{version}.json").exists():
        return
    run = slq.spectrum(MATRIX, probes=2, steps=6, rng=2**100)
    history = slq.History(metadata={"model": "golden"})
    for step in range(3):
        history = history.append(step, run if step != 1 else None, note="odd" * (step == 1), loss=1.0 / (step + 1))
    run.save(folder / f"result-{version}.npz")
    history.save(folder / f"history-{version}.npz")
    slq.spectrum(MATRIX, checkpoint=folder / f"checkpoint-{version}.npz", **OPTIONS)
    (folder / f".checkpoint-{version}.npz.lock").unlink()
    says = {
        "slq": slq.__version__,
        "result": numbers(run),
        "history": {"steps": [0, 1, 2], "loss": history.scalars["loss"].tolist(), "notes": list(history.notes)},
        "checkpoint": numbers(slq.spectrum(MATRIX, **OPTIONS)),
    }
    (folder / f"says-{version}.json").write_text(json.dumps(says, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("error")
    make()
