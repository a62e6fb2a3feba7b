"""Claims about targets: what is needed is where the curve crosses the level, and ratios are paired by seed."""

import numpy as np
import pandas as pd
import pytest

from analysis.decisions.targets import reach_target
from analysis.errors import AnalysisError

STEPS = np.array([10, 30, 100, 300, 1000])


def follow(label, speed, *, seeds=4, noise=0.02, floor=0.0, settings=(0,), seed=0):
    """Runs whose loss is floor + (speed step)^-0.5 at each evaluation, with an effect of each seed on the speed."""
    luck = np.random.default_rng(seed).normal(0, noise, seeds)
    rows = []
    for run in range(seeds):
        for number, setting in enumerate(settings):
            pace = speed * np.exp(luck[run]) * (1 + number)
            for step in STEPS:
                loss = floor + (pace * step) ** -0.5
                last = step == STEPS[-1]
                rows.append(
                    (label, run, 100 + setting, step, 32 * step, 6e3 * 32 * step, loss, last, 50.0 if last else None)
                )
    names = ["label", "seed", "num_params", "step", "data_seen", "train_flops", "loss", "is_final", "wall_seconds"]
    return pd.DataFrame(rows, columns=names).assign(data_unit="tokens")


@pytest.fixture
def two():
    return pd.concat([follow("slow", 0.1), follow("fast", 0.2, seed=0)], ignore_index=True)


def test_what_is_needed_is_where_the_curve_crosses_between_evaluations(two):
    found = reach_target(two, level=0.15)
    exact = np.exp(np.log(0.15**-2 / 0.2) - np.random.default_rng(0).normal(0, 0.02, 4))  # power laws are lines in logs
    steps = found.runs[(found.runs["over"] == "step") & (found.runs["label"] == "fast")]
    assert steps["value"].to_numpy() == pytest.approx(exact, rel=1e-9)
    row = found.table.set_index(["over", "label"]).loc[("step", "fast")]
    assert row["value"] == pytest.approx(np.exp(np.log(exact).mean()))
    assert row["low"] < row["value"] < row["high"]
    assert (row["runs"], row["reached"]) == (4, 4)


def test_ratios_are_paired_by_seed_and_corrected(two):
    found = reach_target(two, level=0.15, baseline="slow")
    assert set(found.table["over"]) == {"step", "data_seen", "train_flops", "wall_seconds"}
    fast = found.table[found.table["label"] == "fast"]
    assert fast["ratio"].to_numpy() == pytest.approx(2.0, rel=1e-6)
    assert (fast["ratio_high"] - fast["ratio_low"]).max() < 1e-6  # seeds share their luck, which pairing takes away
    assert (fast["pairs"] == 4).all()
    noisy = pd.concat([follow("slow", 0.1), follow("fast", 0.2, seed=1)], ignore_index=True)
    ratios = reach_target(noisy, level=0.15, baseline="slow", over=("step", "data_seen")).table
    ratios = ratios[ratios["label"] == "fast"]
    assert ratios["p_holm"].to_numpy() == pytest.approx(2 * ratios["p"].to_numpy())


def test_seconds_of_a_whole_run_are_shared_out_over_its_steps(two):
    table = reach_target(two, level=0.15).table.set_index(["over", "label"])
    assert table.loc[("wall_seconds", "fast"), "value"] == pytest.approx(0.05 * table.loc[("step", "fast"), "value"])
    found = reach_target(two.drop(columns="wall_seconds"), level=0.15)
    assert "wall_seconds" not in set(found.table["over"])
    assert [notice.code for notice in found.notices] == ["not_recorded"]


def test_the_default_level_is_one_that_every_run_reaches(two):
    found = reach_target(two)
    assert found.level == pytest.approx(two[two["is_final"]]["loss"].max())
    assert (found.table["reached"] == found.table["runs"]).all()


def test_runs_that_never_reach_it_are_counted():
    table = pd.concat([follow("low", 0.1), follow("high", 0.1, floor=0.05)], ignore_index=True)
    table.loc[(table["label"] == "high").to_numpy() & (table["seed"] == 0).to_numpy(), "loss"] += 0.05
    found = reach_target(table, level=0.17, baseline="low", over=["step"])
    row = found.table.set_index("label").loc["high"]
    assert (row["runs"], row["reached"], row["pairs"]) == (4, 3, 3)
    assert "not_reached" in [notice.code for notice in found.notices]
    assert str(found).endswith("; 3 of 4 runs reach it")
    never = reach_target(table, level=0.12, baseline="low", over=["step"])
    assert str(never) == "high: none of 4 runs reaches loss 0.12"


def test_a_run_that_diverged_reaches_nothing_and_counts():
    table = follow("one", 0.2)
    table["status"] = np.where(table["seed"] == 3, "diverged", "ok")
    row = reach_target(table, level=0.15, over=["step"]).table.iloc[0]
    assert (row["runs"], row["reached"]) == (4, 3)


def test_of_several_settings_the_one_that_needs_least_counts():
    table = follow("one", 0.1, settings=(0, 1), noise=0.0)
    found = reach_target(table, level=0.15, over=["step"])
    assert found.table["value"].item() == pytest.approx(0.15**-2 / 0.2)
    assert (found.has_settings, found.table["runs"].item()) == (True, 4)


def test_where_more_is_better_the_level_is_reached_from_below(two):
    table = two.assign(accuracy=1 - two["loss"])
    errors = reach_target(table, "loss", 0.15, over=["step"]).table
    found = reach_target(table, "accuracy", 0.85, over=["step"], lower_is_better=False)
    assert found.table["value"].to_numpy() == pytest.approx(errors["value"].to_numpy(), rel=1e-9)
    assert "reaches accuracy 0.85 at step = " in str(found)
    scores = reach_target(two.assign(score=1 / two["loss"]), "score", 1 / 0.15, over=["step"], lower_is_better=False)
    assert scores.table["value"].to_numpy() == pytest.approx(errors["value"].to_numpy(), rel=1e-9)


def test_sentences_have_the_factor_its_interval_and_its_test(two):
    said = reach_target(two, level=0.15, baseline="slow").describe()
    assert said[0].startswith(
        "fast needs 2 (2 to 2) times fewer steps than slow to reach loss 0.15 (p < 0.001, Holm over 4"
    )
    assert "times less training data than slow" in said[1]
    assert "times less compute than slow" in said[2]
    assert "times fewer seconds than slow" in said[3]


def test_a_level_that_the_first_evaluation_has_is_a_bound(two):
    found = reach_target(two, level=0.9, over=["step"])
    assert found.table["value"].tolist() == pytest.approx([10, 12], abs=3)
    assert "at_first_evaluation" in [notice.code for notice in found.notices]


def test_tables_without_evaluations_and_unknown_baselines_are_refused(two):
    with pytest.raises(AnalysisError, match="no run has several evaluations of 'loss'"):
        reach_target(two[two["is_final"]])
    with pytest.raises(AnalysisError, match="baseline='slo' is unknown; did you mean 'slow'"):
        reach_target(two, baseline="slo")


def test_runs_without_a_label_are_followed_too(two):
    label = two["label"].iloc[0]
    nameless = two.assign(label=two["label"].where(two["label"] != label, ""))
    found, whole = reach_target(nameless, "loss").table, reach_target(two, "loss").table
    renamed = whole["label"].replace({label: "(no label)"})
    assert sorted(zip(found["label"], found["value"], strict=True)) == sorted(zip(renamed, whole["value"], strict=True))
