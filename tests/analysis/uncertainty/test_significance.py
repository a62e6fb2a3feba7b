"""Claims about significance: t tests as in a textbook, and Holm's correction as other packages print it."""

import numpy as np
import pytest
from scipy import stats

from analysis.uncertainty.significance import correct_holm, find_p, find_p_of_mean


def test_holms_correction_is_that_of_a_published_example():
    # The example in the documentation of pingouin 0.5, `pingouin.multicomp(…, method="holm")`
    p = [0.50, 0.003, 0.32, 0.054, 0.0003]
    assert correct_holm(p) == pytest.approx([0.64, 0.012, 0.64, 0.162, 0.0015], rel=1e-12)


def test_comparisons_without_a_test_are_not_counted():
    corrected = correct_holm([0.02, np.nan, 0.01])
    assert corrected[[0, 2]].tolist() == pytest.approx([0.02, 0.02])
    assert np.isnan(corrected[1])
    assert correct_holm([]).tolist() == []


def test_among_true_ties_a_false_claim_is_rare_however_many_there_are():
    generator, wrong = np.random.default_rng(0), 0
    for _ in range(300):
        p = [find_p_of_mean(generator.standard_normal(5)) for _ in range(20)]
        wrong += bool((correct_holm(p) <= 0.05).any())
    assert wrong / 300 < 0.09  # 0.64 without the correction


def test_p_is_that_of_a_t_test():
    values = [0.3, 0.1, 0.4, 0.2, -0.1]
    assert find_p_of_mean(values) == pytest.approx(float(stats.ttest_1samp(values, 0).pvalue), rel=1e-10)
    assert np.isnan(find_p_of_mean([0.3]))
    assert (find_p(0.2, 0.0, 3), find_p(0.0, 0.0, 3)) == (0.0, 1.0)
