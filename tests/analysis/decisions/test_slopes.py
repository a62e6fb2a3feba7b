"""Claims about slopes: what improves, worsens, is flat or cannot be told, each by its test and corrected."""

import numpy as np
import pandas as pd
import pytest

from analysis.decisions.slopes import judge_slopes
from analysis.errors import AnalysisError

SIZES = [100, 200, 400, 800, 1600]


def make(label, exponent, *, seeds=4, noise=0.005, sizes=SIZES, seed=0, level=0.4):
    """A series that falls as m^-exponent, with an effect of each seed at every size."""
    generator = np.random.default_rng(seed)
    luck = 0.05 * generator.standard_normal(seeds)
    rows = [
        (label, run, m, level * (m / 100) ** -exponent * np.exp(luck[run] + noise * generator.standard_normal()))
        for run in range(seeds)
        for m in sizes
    ]
    return pd.DataFrame(rows, columns=["label", "seed", "data_unique", "error"])


@pytest.fixture
def several():
    series = [make("falls", 0.2), make("flat", 0.0, noise=0.001, seed=1), make("rises", -0.1, seed=2)]
    return pd.concat([*series, make("noisy", 0.02, noise=0.1, seed=3), make("single", 0.2, sizes=[1600])])


def test_each_series_has_its_verdict(several):
    table = judge_slopes(several, "error").table.set_index("label")
    verdicts = ["improves", "flat", "worsens", "not settled", "no test"]
    assert table["verdict"].to_dict() == dict(zip(table.index, verdicts, strict=True))
    falls = table.loc["falls"]
    assert falls["low"] < 2**-0.2 - 1 < falls["high"] < 0
    assert (falls["seeds"], falls["sizes"], falls["method"], falls["size"]) == (4, 3, "seeds", 1600)


def test_effects_of_seeds_at_every_size_do_not_hide_a_slope(several):
    falls = judge_slopes(several, "error").table.set_index("label").loc["falls"]
    assert falls["high"] - falls["low"] < 0.03  # the seeds lie 5 % apart, and their slopes less than 1 %


def test_p_is_corrected_for_the_number_of_series(several):
    alone = judge_slopes(several[several["label"] == "falls"], "error").table.iloc[0]
    among = judge_slopes(several, "error").table.set_index("label").loc["falls"]
    assert alone["p_holm"] == alone["p"] == among["p"]
    assert among["p_holm"] > among["p"]


def test_sentences_have_the_change_its_interval_and_the_test(several):
    slopes = judge_slopes(several.assign(data_unit="examples"), "error")
    said = slopes.describe()
    assert said["falls"].startswith("falls still improves at m = 1,600 examples: 1")
    assert said["falls"].endswith("lower error for each doubling (p < 0.001, Holm over 4 series)")
    assert "flat is flat at m = 1,600 examples: a doubling changes error by " in said["flat"]
    assert said["flat"].endswith(" %, within ±1 %")
    assert "rises worsens at m = 1,600 examples: 7" in said["rises"]
    assert "% higher error" not in said["falls"]
    assert "higher error for each doubling" in said["rises"]
    assert "is not settled" in said["noisy"]
    assert said["single"] == "single: no test at m = 1,600 examples (one size only; run more)"
    assert str(slopes).splitlines() == list(said.values())


def test_a_change_within_the_margin_is_flat_and_the_margin_is_the_users():
    slow = make("slow", 0.005, noise=1e-4)
    assert judge_slopes(slow, "error").table["verdict"].item() == "flat"  # 0.3 % for each doubling
    assert judge_slopes(slow, "error", margin=0.001).table["verdict"].item() == "improves"
    assert judge_slopes(make("loose", 0.0, noise=0.05), "error").table["verdict"].item() == "not settled"


def test_of_accuracy_the_change_of_the_error_is_measured(several):
    accuracy = several.assign(accuracy=1 - several["error"], r2=1 - several["error"], score=1 / several["error"])
    errors = judge_slopes(accuracy, "error").table
    for target in ("accuracy", "r2"):
        slopes = judge_slopes(accuracy, target, lower_is_better=False)
        assert slopes.table["verdict"].tolist() == errors["verdict"].tolist()
        assert slopes.table["change"].to_numpy() == pytest.approx(errors["change"].to_numpy(), rel=1e-9, nan_ok=True)
        assert f" %) lower 1 - {target} for each doubling" in slopes.describe()["falls"]
    rising = judge_slopes(accuracy, "score", lower_is_better=False)
    assert rising.table["verdict"].tolist() == errors["verdict"].tolist()
    assert rising.table["change"].iloc[0] > 0
    assert "higher score for each doubling" in rising.describe()["falls"]


def test_one_seed_is_judged_by_the_line_through_at_least_four_sizes():
    one = judge_slopes(make("one", 0.2, seeds=1), "error").table.iloc[0]
    assert (one["method"], one["sizes"], one["verdict"]) == ("residuals", 4, "improves")
    assert one["low"] < 2**-0.2 - 1 < one["high"]
    short = judge_slopes(make("short", 0.2, seeds=1, sizes=SIZES[:3]), "error").table.iloc[0]
    assert (short["verdict"], short["reason"][:12]) == ("no test", "no two seeds")
    assert np.isnan(short["p"])


def test_values_at_zero_or_below_change_in_units_of_the_spread():
    table = pd.concat([make("falls", 0.2), make("zero", 0.2, seed=1)])
    table.loc[(table["label"] == "zero").to_numpy() & (table["data_unique"] == 1600).to_numpy(), "error"] = 0.0
    slopes = judge_slopes(table, "error")
    assert slopes.table["unit"].tolist() == ["share", "spread"]
    assert slopes.table["verdict"].tolist() == ["improves", "improves"]
    assert "%) lower error, as shares of its spread, for each doubling" in slopes.describe()["zero"]


def test_tests_of_flat_series_hold_their_rate():
    wrong = 0
    for seed in range(100):
        series = [make(str(i), 0.0, noise=0.02, seeds=3, seed=100 * seed + i) for i in range(5)]
        wrong += (
            judge_slopes(pd.concat(series), "error", margin=1e-6).table["verdict"].isin(["improves", "worsens"]).any()
        )
    assert wrong <= 12  # 5 are expected


def test_wrong_calls_are_refused(several):
    with pytest.raises(AnalysisError, match="must be above 0 and below 1"):
        judge_slopes(several, "error", margin=1.5)
    with pytest.raises(AnalysisError, match="last=1 must be at least 2"):
        judge_slopes(several, "error", last=1)
    with pytest.raises(AnalysisError, match="several settings share it"):
        judge_slopes(pd.concat([several, several.assign(error=0.3)]), "error")
    with pytest.raises(AnalysisError, match="data_unique=0 must be positive"):
        judge_slopes(pd.concat([several, several.iloc[:1].assign(data_unique=0, seed=9)]), "error")
