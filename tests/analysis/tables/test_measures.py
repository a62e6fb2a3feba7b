"""Claims about what is measured of a target: shortfalls of shares, and the column itself of everything else."""

import pandas as pd
import pytest

from analysis.tables.measures import read_measure
from scaling.specs.metrics import MetricFacts


@pytest.mark.parametrize("target", ["accuracy", "ood_top5_accuracy", "r2", "auc"])
def test_of_what_is_best_at_1_the_shortfall_is_measured(target):
    measure = read_measure(target)
    assert (measure.lower_is_better, measure.is_shortfall, measure.falls) == (False, True, True)
    table = measure.add_to(pd.DataFrame({target: [0.75, 0.5]}))
    assert table[f"1 - {target}"].tolist() == [0.25, 0.5]


@pytest.mark.parametrize("target", ["loss", "error", "rmse", "whatever"])
def test_of_what_falls_the_column_is_measured(target):
    measure = read_measure(target)
    assert (measure.name, measure.is_shortfall, measure.falls) == (target, False, True)


def test_a_users_metric_is_known_by_what_records_say():
    known = [MetricFacts(name="recall", unit="share of positives", direction="higher"),
             MetricFacts(name="score", direction="higher")]  # fmt: skip
    assert read_measure("recall", known).is_shortfall
    assert not read_measure("recall").is_shortfall
    score = read_measure("score", known)
    assert (score.lower_is_better, score.is_shortfall, score.falls) == (False, False, False)
    assert read_measure("whatever", lower_is_better=False).falls is False
