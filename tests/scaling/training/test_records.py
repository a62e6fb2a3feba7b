"""Claims about records: what they prove of the data that a cell saw."""

import pytest

from scaling.specs.models import LogisticRegressionSpec
from scaling.training.runner import train_cell
from tests.scaling.training.cells import classical, network


def test_records_prove_nesting_and_one_evaluation_set():
    small, large = (train_cell(classical(LogisticRegressionSpec(), size=m), (50, 100, 200)) for m in (50, 100))
    assert sorted(large.data.digests) == ["100", "50"]
    assert small.data.is_prefix_of(large.data)
    other = train_cell(classical(LogisticRegressionSpec(), size=100, seed=1), (50,))
    assert not small.data.is_prefix_of(other.data)
    assert small.data.evaluation_sha256 == large.data.evaluation_sha256
    assert sum(large.data.class_counts) == 100


def test_noise_and_duplicates_are_in_the_record_and_cost_accuracy():
    cell = network(size=1000, num_steps=400)
    clean = train_cell(cell)
    data = cell.data.model_copy(update={"label_noise": 0.5, "duplication": 0.25})
    noisy = train_cell(cell.model_copy(update={"data": data}))
    assert (noisy.data_unique, noisy.data.num_unique, noisy.data.duplication) == (750, 750, 0.25)
    assert 400 < noisy.data.num_noisy < 600
    assert noisy.epochs == pytest.approx(400 * 32 / 750)
    assert noisy.data.evaluation_sha256 == clean.data.evaluation_sha256
    assert noisy.evaluations[-1].metrics["error"] > clean.evaluations[-1].metrics["error"] + 0.05
