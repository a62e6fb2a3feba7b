"""What the commands that read tables share: pairs of the command line, what a study declares, documents, labels."""

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from launch.commands.sources import check_label, clean, declared_study, read_numbers
from scaling.specs.base import InputError
from scaling.specs.fits import FitSpec
from scaling.specs.study import Study
from tests.analysis.report.stores import make_store


def test_a_file_is_fitted_as_a_study_that_declares_nothing(tmp_path):
    declared = declared_study(str(tmp_path / "runs.csv"))
    assert declared["fit"] == Study.model_fields["fit"].default.model_dump() == FitSpec().model_dump()
    assert declared["metric"] == Study.model_fields["metric"].default


def test_a_store_is_fitted_as_its_study_declares(tmp_path):
    make_store(tmp_path / "store", sizes=(100,))
    declared = declared_study(str(tmp_path / "store"))
    assert (declared["metric"], declared["fit"]["delta"]) == ("error", 0.05)


def test_pairs_are_numbers_by_name():
    assert read_numbers(["num_params=7e9", " data_seen = 1 "], "--at") == {"num_params": 7e9, "data_seen": 1.0}
    for pair in ("num_params", "=7", "num_params="):
        with pytest.raises(InputError, match=r"--at .* is no pair; write --at NAME=VALUE"):
            read_numbers([pair], "--at")
    assert read_numbers(["num_params=7B"], "--at") == {"num_params": 7e9}
    with pytest.raises(InputError, match="'seven' is no number"):
        read_numbers(["num_params=seven"], "--at")


def test_what_is_not_finite_is_null_at_any_depth():
    document = {"a": [np.float64(1.5), np.inf], "b": {"c": (float("nan"), -np.inf)}, "d": np.int64(3), "e": "inf"}
    assert clean(document) == {"a": [1.5, None], "b": {"c": [None, None]}, "d": 3, "e": "inf"}


def test_a_label_that_is_not_there_names_the_nearest():
    check_label(pd.DataFrame({"label": ["wide"]}), "--label", "wide")
    with pytest.raises(AnalysisError, match="--baseline='wdie' is unknown; did you mean 'wide'"):
        check_label(pd.DataFrame({"label": ["wide", "deep"]}), "--baseline", "wdie")
    with pytest.raises(AnalysisError, match="there are none"):
        check_label(pd.DataFrame({"loss": [1.0]}), "--label", "wide")
