"""Runs on 1, 2, 3 and 4 ranks of gloo give the numbers of a single process, and say what is wrong on one of them.

All is run once, by `launch.py`, which forks every rank; the tests here read what was seen.
"""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from slq_torch import distributed
from torch import nn

pytestmark = pytest.mark.slow  # a minute and more, much of it waiting for ranks that have died
LAUNCH = Path(__file__).with_name("launch.py")
SIZES = (1, 2, 3, 4)
N, TIMEOUT, WAIT = 84, 15, 3


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What each rank saw, by number of ranks; made once, also where several workers run these tests."""
    base = tmp_path_factory.getbasetemp()  # of this worker, in that of the session
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "slq-ranks"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "1.json").exists():
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
            done = subprocess.run(
                [sys.executable, str(LAUNCH), str(folder)], env=environment, capture_output=True, text=True, timeout=900
            )
            assert done.returncode == 0, done.stderr
    return {size: json.loads((folder / f"{size}.json").read_text()) for size in SIZES}


@pytest.mark.parametrize("size", SIZES)
class TestNumbers:
    @pytest.mark.parametrize("kind", ["hessian", "hessian of sums", "ggn", "covariance"])
    def test_of_split_data_are_those_of_one_process(self, seen, size, kind):
        for rank in seen[size]:
            coefficients, samples, loss = rank["split_data"][kind]
            assert coefficients < 1e-10
            assert samples == 0
            assert loss < 1e-12

    def test_of_adaptive_runs_and_of_shifted_operators_too(self, seen, size):
        for rank in seen[size]:
            assert max(rank["adapt"]) < 1e-10

    def test_of_split_probes_are_those_of_one_process(self, seen, size):
        for rank in seen[size]:
            coefficients, count, probes, _ = rank["split_probes"]
            assert coefficients < 1e-10
            assert count < 1e-9
            assert probes == 5
        assert len({rank["split_probes"][3] for rank in seen[size]}) == 1

    def test_of_sharded_parameters_are_right_to_the_noise_of_differences(self, seen, size):
        found = [rank["split_parameters"] for rank in seen[size]]
        assert sum(rank["rows"] for rank in found) == found[0]["n"]
        for rank in found:
            assert rank["apart"] < 1e-8
            assert 0 < rank["noise"] < 1e-8
            assert rank["same"], "shards and gradients must come back as they were"
            assert rank["plan"] == "parameters"

    def test_of_pieces_of_unlike_size_too(self, seen, size):
        for rank in seen[size]:
            assert rank["cut_small"]["uneven"] < 1e-10

    def test_are_by_differences_where_a_backward_leaves_the_graph(self, seen, size):
        for rank in seen[size]:
            apart, noise, engine = rank["cut_small"]["bent"]
            assert apart < 1e-8
            assert 0 < noise < 1e-8
            assert engine["strategy"] == "finite-difference"
            assert "a backward that cannot be differentiated" in engine["notes"][0]
            assert '`strategy` is "graph", but the exact product is' in rank["cut_small"]["asked"]

    def test_of_eigenpairs_functions_and_traces_too(self, seen, size):
        for rank in seen[size]:
            found = rank["functions"]
            assert found["verified"]
            assert max(found[name] for name in ("values", "applied", "traces")) < 1e-10
            assert found["vectors"] < 1e-8

    def test_of_a_wrapped_model_are_those_of_what_is_inside(self, seen, size):
        for rank in seen[size]:
            coefficients, notes = rank["unwrap"]
            assert coefficients < 1e-10
            assert "DistributedDataParallel was taken off" in notes[0]


class TestCutLayers:
    @pytest.mark.parametrize("size", [2, 4])
    @pytest.mark.parametrize("kind", ["hessian", "hessian, sequence", "ggn"])
    def test_have_the_numbers_of_one_process(self, seen, size, kind):
        found = [rank["cut_layers"][kind] for rank in seen[size]]
        assert sum(rank["rows"] for rank in found) == found[0]["n"]
        for rank in found:
            assert rank["apart"] < 1e-10
            assert rank["noise"] == 0
            assert rank["engine"]["strategy"] == "graph"
            assert all("fused kernels have no second derivative" in note for note in rank["engine"]["notes"])
            assert max(map(abs, rank["told"])) < 1e-12
            assert rank["same"], "pieces and gradients must come back as they were"

    @pytest.mark.parametrize("kind", ["hessian", "ggn"])
    def test_by_differences_are_right_to_their_noise(self, seen, kind):
        for rank in seen[2]:
            found = rank["cut_layers"][f"{kind}, differences"]
            assert found["engine"] == {"strategy": "finite-difference", "notes": []}
            assert 0 < found["noise"] < 1e-8
            assert found["apart"] < 100 * found["noise"]
            assert found["same"]


class TestProbesOverGroups:
    @pytest.mark.parametrize("kind", ["data", "shifted", "layers", "rows"])
    def test_have_the_numbers_of_one_process(self, seen, kind):
        for rank in seen[4]:
            coefficients, probes, ranks, split = rank["combine"][kind]
            assert coefficients < 1e-10
            assert (probes, ranks) == (5, 4)
            assert split.startswith("probes, ")

    def test_by_differences_to_their_noise(self, seen):
        for rank in seen[4]:
            coefficients, probes, ranks, split = rank["combine"]["parameters"]
            assert coefficients < 1e-4  # coefficients feel noise, which the ends of the spectrum do not
            assert (probes, ranks, split) == (5, 4, "probes, parameters")

    def test_are_shared_among_groups(self, seen):
        for number, rank in enumerate(seen[4]):
            probes, tests = 2 + number // 2, 3
            assert 10 * probes <= rank["combine"]["columns"] <= 10 * probes + tests
        assert len({rank["combine"]["seed"] for rank in seen[4]}) == 1

    def test_must_have_the_same_rows_at_the_same_place(self, seen):
        for rank in seen[4]:
            assert "The rows of vectors differ between ranks" in rank["combine"]["crossed"]

    def test_are_refused_over_ranks_that_share_vectors(self, seen):
        for number, rank in enumerate(seen[4]):
            pair = [number - number % 2, number - number % 2 + 1]
            for group, words in (("all", "`group` is not given"), ("inner", f"`group` has the ranks {pair}")):
                said = rank["combine"][group]
                assert words in said
                assert f"vectors of `A` are cut over the ranks {pair}: {pair} are in both" in said
                assert 'group=mesh["probes"].get_group()' in said

    def test_with_other_arguments_are_refused_on_all(self, seen):
        for number, rank in enumerate(seen[4]):
            words = "The values of `steps` differ between ranks" if number % 2 else "refuse what others were given"
            assert words in rank["combine"]["steps"]

    @pytest.mark.parametrize(("what", "words"), [("data", "ValueError: a bad batch"), ("rows", "MemoryError: no room")])
    def test_end_where_a_rank_of_one_of_them_fails(self, seen, what, words):
        for rank in seen[4]:
            said, seconds = rank["fail"][f"combined {what}"]
            assert f"rank 1 of 2 failed: {words}" in said
            assert seconds < 2 * WAIT + TIMEOUT


@pytest.mark.parametrize("size", SIZES)
class TestCost:
    def test_a_step_moves_two_vectors_per_probe_and_a_few_sums(self, seen, size):
        for rank in seen[size]:
            found = rank["count_traffic"]
            steps, width = found["steps"], 2
            assert sum(found["vectors"]) <= 2 * steps * width * (found["vector"] + found["padded"])
            assert len(found["vectors"]) == (2 * steps if size > 1 else 0)  # all probes go together
            assert found["small"] <= 8 * steps * size * (4 + 32 + 8 * width + width * steps)

    def test_vectors_and_basis_take_their_share_of_memory(self, seen, size):
        shares = [rank["weigh_vectors"] for rank in seen[size]]
        for own, single in shares:
            assert own <= 1.1 * single / size
        assert sum(own for own, _ in shares) >= shares[0][1]


@pytest.mark.parametrize("size", SIZES)
class TestWhatIsRefused:
    def test_is_what_does_not_pass_fully_sharded_models(self, seen, size):
        for rank in seen[size]:
            assert "`kind` is 'ggn', and this model is sharded by FSDP" in rank["cut_small"]["ggn"]
            assert "`kind` must be one of 'hessian', 'ggn', got 'fisher'" in rank["cut_small"]["kind"]

    def test_is_a_model_of_which_ranks_share_a_part(self, seen, size):
        for rank in seen[size]:
            assert "Parameter '2.weight' is in no module that fully_shard was given" in rank["cut_small"]["some"]
            assert "`model` is inside DistributedDataParallel. Pass model.module" in rank["cut_small"]["wrapped"]

    def test_is_a_mesh_of_two_dimensions(self, seen, size):
        for rank in seen[size]:
            if size == 4:
                assert "on a mesh of 2 dimension(s) (copies, layers)" in rank["cut_small"]["mixed"]
                assert "group=mesh['probes'].get_group()" in rank["cut_small"]["mixed"]


@pytest.mark.parametrize("size", SIZES[1:])
class TestWhatIsWrongOnOneRank:
    @pytest.mark.parametrize(
        ("what", "words"),
        [
            ("model", "The values of the parameters differ between ranks: rank 0 has"),
            ("data", "The kinds of batches differ between ranks: rank 0 has [('torch.float64', 2)"),
            ("seeds", "`rng` differs between ranks"),
            ("centred", "Pass centred=False"),
            ("plain", "is a plain tensor; this split takes models whose parameters are all cut"),
        ],
    )
    def test_is_said_on_all(self, seen, size, what, words):
        for rank in seen[size]:
            assert words in rank["complain"][what]

    def test_is_said_with_its_number(self, seen, size):
        for rank in seen[size]:
            said = rank["complain"]
            assert f"rank {size - 1} of {size} failed: ValueError: `loss` is nan for batch 0" in said["loss"]
            assert f"the product gave NaN or Inf on rank {size - 1} of {size}" in said["product"]

    def test_is_said_where_layers_are_cut(self, seen, size):
        for rank in seen[size]:
            found = rank["cut_small"]
            for which in ("first batch", "later batch"):
                assert f"`data` are not the same on rank {size - 1} of {size} as on rank 0" in found[which]
            assert "The derivative by '3.bias', which every rank has whole, is not the same on rank" in found["part"]

    def test_the_same_data_everywhere_are_noted(self, seen, size):
        for rank in seen[size]:
            assert rank["complain"]["same"] == [
                "The first batch is the same on all ranks: their data should be disjoint shares."
            ]

    @pytest.mark.parametrize("what", ["parameters", "halo", "gather"])
    def test_in_a_product_ends_the_others_within_the_time_out_and_names_it(self, seen, size, what):
        words = "ValueError: a bad batch" if what == "parameters" else "MemoryError: no room"
        for number, rank in enumerate(seen[size]):
            said, seconds = rank["fail"][what]
            assert words in said
            assert f"rank {size - 1} of {size} failed: {words}" in said or number == size - 1
            assert seconds < 2 * WAIT + TIMEOUT

    def test_a_rank_that_dies_ends_the_others_in_time(self, seen, size):
        assert "die" not in seen[size][-1]
        for number, rank in enumerate(seen[size][:-1]):
            said, seconds = rank["die"]
            assert f"RunError: rank {number} of {size} lost the others" in said
            assert f"{size - 1} of {size} does not answer" in said
            assert seconds < 2 * TIMEOUT


def test_two_ranks_resume_what_four_began_to_the_same_numbers(seen):
    assert {rank["resume"] for rank in seen[4]} == {17}  # eight steps of two probes, and one that tests the operator
    for rank in seen[2]:
        coefficients, resumed, passes, steps = rank["resume"]
        assert coefficients < 1e-10
        assert resumed == 1
        assert 0 < passes <= steps - 8 + 3


class TestPlan:
    def test_takes_data_where_a_product_fits(self):
        assert distributed.plan(nn.Linear(1000, 1000), ranks=4, memory=1e9).split == "data"

    def test_takes_probes_where_there_are_as_many_as_ranks(self):
        assert distributed.plan(nn.Linear(100, 100), ranks=4, probes=8, memory=1e9).split == "probes"
        assert distributed.plan(nn.Linear(1000, 1000), ranks=4, probes=8, memory=1e8).split == "data"

    def test_takes_groups_where_there_are_fewer_probes_than_ranks(self):
        found = distributed.plan(nn.Linear(1000, 1000, bias=False), ranks=6, probes=4, steps=54, memory=1e12)
        assert (found.split, found.groups) == ("data", 3)
        assert found.bytes == 4e6 * (1 + 4 + 2 * 60 / 2)
        assert "3 groups of 2 ranks share 4 probes" in found.reason
        assert distributed.plan(nn.Linear(9, 9), ranks=5, probes=4, memory=1e12).groups == 1
        assert distributed.plan(nn.Linear(9, 9), ranks=4, probes=4, memory=1e12).groups == 4

    def test_takes_parameters_where_a_product_does_not_fit(self):
        found = distributed.plan(nn.Linear(1000, 1000), ranks=4, memory=1e7)
        assert found.split == "parameters"
        assert "a product takes" in found.reason

    def test_counts_vectors_and_parameters(self):
        found = distributed.plan(nn.Linear(1000, 1000, bias=False), ranks=2, steps=54, memory=1e12)
        assert found.bytes == 4e6 * (1 + 4 + 60 / 2)


def test_without_a_group_it_is_said_how_to_make_one():
    model = nn.Linear(2, 1)
    with pytest.raises(RuntimeError, match="Start the script with torchrun"):
        distributed.parameter_sharded(model, lambda m, x: m(x).mean(), torch.ones(1, 2))
