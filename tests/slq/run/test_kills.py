"""A real job is killed at random instants: the next one goes on to the same bits and loses no more than a product."""

import os

import pytest

from tests.torture.kills import JOBS, logged, result, survives

pytestmark = [pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal"), pytest.mark.slow]


@pytest.fixture(params=JOBS)
def job(request):
    return JOBS[request.param]


def test_a_job_that_is_killed_again_and_again_loses_nothing(job, tmp_path):
    (tmp_path / "whole").mkdir()
    whole = result(job, tmp_path / "whole")
    assert logged(tmp_path / "whole") == job.whole
    survives(job, tmp_path, whole, 2, 0)


@pytest.mark.parametrize("name", ["spectrum, full", "eigsh"])
def test_a_product_that_hangs_loses_nothing_when_its_job_is_killed(name, tmp_path):
    job = JOBS[name]
    (tmp_path / "whole").mkdir()
    whole = result(job, tmp_path / "whole")
    survives(job, tmp_path, whole, 1, 0, hang=8)
    assert logged(tmp_path) == job.whole + 1
