"""Claims about scores: errors of logarithms, and what cannot be scored."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import AnalysisError
from analysis.validation.scores import score_log


def test_the_score_is_the_root_mean_square_of_logs():
    score = score_log([2.0, 2.0], [1.0, 4.0])
    assert score.rmse == pytest.approx(np.log(2))
    assert score.bias == pytest.approx(0.0)


def test_a_law_that_predicts_too_much_has_a_positive_bias():
    found = score_log([2.0, 2.0, 1.0], [1.0, 1.0, 1.0])
    assert (found.bias, found.max, found.n) == pytest.approx((2 * np.log(2) / 3, np.log(2), 3))


def test_a_prediction_that_is_not_positive_is_infinitely_wrong_and_such_an_observation_is_refused():
    assert score_log([-1.0, 1.0], [1.0, 1.0]).rmse == np.inf
    with pytest.raises(AnalysisError, match=r"observed=-1\.0 must be finite and positive"):
        score_log([1.0], [-1.0])
    with pytest.raises(AnalysisError, match="0 rows to score"):
        score_log([], [])
