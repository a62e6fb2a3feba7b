"""Claims about comparing ideas: what varies decides what is said, and what cannot be said is a notice."""

import numpy as np
import pandas as pd
import pytest

from analysis.decisions.ideas import compare_ideas
from analysis.errors import AnalysisError
from scaling.specs.metrics import MetricFacts

QUICK = {"resamples": 40}


def sample(sizes, data, *, seeds=2, noise=0.001, better=2.0):
    """Two ideas on Chinchilla's surface; for `new` every parameter and every token count for more."""
    generator, rows = np.random.default_rng(0), []
    for seed in range(seeds):
        luck = generator.normal(0, 0.004)
        for N in sizes:
            for D in data:
                for label, f in (("old", 1.0), ("new", better)):
                    loss = 1.8 + 480 * (f * N) ** -0.35 + 2100 * (f * D) ** -0.37
                    loss *= np.exp(luck + generator.normal(0, noise))
                    rows.append((label, seed, N, D, D, 6 * N * D, loss))
    names = ["label", "seed", "num_params", "data_seen", "data_unique", "train_flops", "loss"]
    return pd.DataFrame(rows, columns=names)


@pytest.fixture(scope="module")
def surface():
    return sample(np.geomspace(1e6, 1e8, 4).round(), np.geomspace(1e8, 1e10, 4).round())


@pytest.fixture(scope="module")
def line():
    """Only the data varies: 6 sizes, 4 seeds, and an error between 0 and 1."""
    table = sample([1e7], np.geomspace(1e8, 1e10, 6).round(), seeds=4)
    return table.assign(error=table["loss"] / 10, accuracy=1 - table["loss"] / 10, score=10 / table["loss"])


def codes(found):
    return [notice.code for notice in found.notices]


def test_where_n_and_d_vary_the_gain_is_along_the_frontiers(surface):
    found = compare_ideas(surface, "old", "new", **QUICK)
    gain = found.surface
    assert (gain.axis.column, gain.is_paired) == ("train_flops", True)
    assert gain.offset.estimate == pytest.approx(4.0, rel=0.05)  # N and D count twice, C = 6 N D four times
    assert "times less compute than old at C = " in str(gain)
    assert found.parts == {}
    assert codes(found).count("surface") == 2
    assert "several settings share it" in next(one.text for one in found.notices if one.code == "shared_sizes")


def test_a_law_of_both_may_be_named_and_needs_a_surface(surface, line):
    found = compare_ideas(surface, "old", "new", law="chinchilla_tied", resamples=5)
    assert found.surface.offset.estimate == pytest.approx(4.0, rel=0.1)
    with pytest.raises(AnalysisError, match="law='chinchilla' is of num_params and data_seen: old: num_params has 1"):
        compare_ideas(line, "old", "new", law="chinchilla", **QUICK)
    with pytest.raises(AnalysisError, match="a comparison needs a law of one variable, such as power_floor"):
        compare_ideas(line, "old", "new", law="data_constrained", **QUICK)


def test_where_settings_share_a_size_the_order_is_left_out_and_the_rest_goes_on():
    table = sample([1e6, 2e6], np.geomspace(1e8, 1e10, 5).round())  # two sizes are no surface
    found = compare_ideas(table, "old", "new", **QUICK)
    assert found.surface is None
    part = found.parts["data"]
    assert (part.order, part.slopes) == (None, None)
    assert part.gain is not None
    assert {"shared_sizes", "mixed_settings"} <= set(codes(found))


def test_over_data_there_are_order_slopes_and_gain(line):
    found = compare_ideas(line.assign(data_unit="tokens"), "old", "new", target="error", **QUICK)
    assert set(found.parts) == {"data", "compute"}
    part = found.parts["data"]
    assert set(part.order.pairs["better"]) == {"new"}
    assert part.order.num_tests == 6
    assert part.slopes.table["verdict"].tolist() == ["improves", "improves"]
    assert "times less unique data than old at m = " in str(part.gain)
    assert "times less compute than old at C = " in str(found.parts["compute"].gain)


def test_accuracy_is_compared_as_the_error_is(line):
    errors = compare_ideas(line, "old", "new", target="error", **QUICK)
    found = compare_ideas(line, "old", "new", target="accuracy", **QUICK)
    assert found.measure.name == "1 - accuracy"
    assert "shortfall" in codes(found)
    assert found.parts["data"].gain.offset.estimate == pytest.approx(
        errors.parts["data"].gain.offset.estimate, rel=1e-6
    )
    assert set(found.parts["data"].order.pairs["better"]) == {"new"}
    assert found.parts["data"].order.pairs["difference"].iloc[0] > 0  # new - old, of accuracy
    assert found.parts["data"].slopes.table["verdict"].tolist() == ["improves", "improves"]


def test_a_score_that_rises_has_an_order_and_no_falling_law(line):
    known = [MetricFacts(name="score", direction="higher")]
    for options in ({"known": known}, {"lower_is_better": False}):
        found = compare_ideas(line, "old", "new", target="score", **options, **QUICK)
        assert set(found.parts["data"].order.pairs["better"]) == {"new"}
        assert (found.parts["data"].gain, "compute" in found.parts) == (None, False)
        assert "rising" in codes(found)


def test_over_model_sizes_it_speaks_of_parameters():
    table = sample(np.geomspace(1e5, 1e8, 6).round(), [1e10])
    found = compare_ideas(table, "old", "new", **QUICK)
    assert set(found.parts) == {"size", "compute"}
    assert "times fewer parameters than old at N = " in str(found.parts["size"].gain)


def test_few_sizes_have_an_order_without_a_curve(line):
    few = line[line["data_unique"].isin(sorted(line["data_unique"].unique())[:3])]
    found = compare_ideas(few, "old", "new", target="error", **QUICK)
    assert found.parts["data"].gain is None
    assert len(found.parts["data"].order.pairs) == 3
    assert codes(found).count("few_values") == 2


def test_what_a_study_declares_is_followed_and_said(line):
    smallest = int(sorted(line["data_unique"].unique())[1])
    declared = {"law": "power_floor", "objective": "log_mse", "delta": 1e-3, "smallest_size": smallest}
    found = compare_ideas(line, "old", "new", target="error", declared=declared, **QUICK)
    assert "below_smallest" in codes(found)
    assert found.parts["data"].gain.table["data_unique"].min() >= smallest


def test_other_columns_than_labels_can_be_compared_and_cells_count_once(line):
    other = line.assign(**{"model.activation": line["label"].map({"old": "sigmoid", "new": "relu"})})
    other["cell"] = [f"cell {number}" for number in range(len(other))]
    other = pd.concat([other.assign(label="one"), other.assign(label="two")], ignore_index=True)
    found = compare_ideas(other, "sigmoid", "relu", by="model.activation", target="error", **QUICK)
    assert set(found.parts["data"].order.pairs["better"]) == {"relu"}
    numbers = line.assign(depth=line["label"].map({"old": 2, "new": 4}))
    assert compare_ideas(numbers, "2", "4", by="depth", target="error", **QUICK).parts["data"].order.num_tests == 6
    with pytest.raises(AnalysisError, match=r"model.activation='rel' is unknown; did you mean 'relu'"):
        compare_ideas(other, "sigmoid", "rel", by="model.activation", **QUICK)


def test_a_perfect_score_has_no_logarithm_and_the_order_goes_on(line):
    table = line.copy()
    table.loc[(table["label"] == "new").to_numpy() & (table["seed"] == 0).to_numpy(), "accuracy"] = 1.0
    found = compare_ideas(table, "old", "new", target="accuracy", **QUICK)
    assert found.parts["data"].gain is None
    assert "not_fitted" in codes(found)
    assert found.parts["data"].order is not None


def test_a_table_of_which_nothing_can_be_said_is_refused(line):
    with pytest.raises(AnalysisError, match="no order by size"):
        compare_ideas(line.iloc[:2], "old", "new", target="error", **QUICK)


def test_crossings_of_accuracy_are_those_of_the_error_with_the_same_leaders():
    generator, rows = np.random.default_rng(0), []
    for seed in range(3):
        for m in np.geomspace(50, 5e4, 8).round():
            for label, E, A, alpha in (("forest", 0.15, 2.0, 0.5), ("mlp", 0.02, 3.0, 0.4)):  # they cross at 915
                rows.append((label, seed, m, (E + A * m**-alpha) * np.exp(generator.normal(0, 0.003))))
    table = pd.DataFrame(rows, columns=["label", "seed", "data_unique", "error"]).assign(
        accuracy=lambda frame: 1 - frame["error"]
    )
    for target in ("error", "accuracy"):
        (crossing,) = compare_ideas(table, "forest", "mlp", target=target, **QUICK).parts["data"].crossings
        assert crossing.size == pytest.approx(915, rel=0.15)
        assert (crossing.ahead_before, crossing.ahead_after) == ("forest", "mlp")


def test_runs_without_a_name_can_be_compared(line):
    nameless = line.assign(label=line["label"].where(line["label"] != "old", None))
    found = compare_ideas(nameless, "(no label)", "new", **QUICK)
    assert str(found.parts["data"].gain.offset) == str(
        compare_ideas(line, "old", "new", **QUICK).parts["data"].gain.offset
    )
