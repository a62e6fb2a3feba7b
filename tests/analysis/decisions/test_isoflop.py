"""Approach 2 has the published bias as a parabola and next to none as a cubic, and counts bracketed minima only."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.decisions.isoflop import choose_tolerance, find_valleys, fit_isoflops, fit_valleys, group_budgets
from analysis.decisions.trends import check_budget, fit_trend
from analysis.decisions.valleys import find_vertices
from analysis.errors import AnalysisError
from analysis.laws.registry import get_law
from tests.places import TABLES

SURFACES = {"symmetric": (0.31, 0.31), "chinchilla": (0.34, 0.28), "imbalanced": (0.465, 0.155)}


def best_data(alpha, beta, flops):
    factor = (alpha * 406.4 / (beta * 410.7)) ** (1 / (alpha + beta))
    return (flops / 6) ** (alpha / (alpha + beta)) / factor


def make_profiles(alpha, beta, spread, sizes=15, budgets=5, noise=0.0, seed=0):
    """Budgets 1e17 to 1e21, each with log-spaced sizes around its optimum, on L = 1.69 + 406.4/N^a + 410.7/D^b."""
    params = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": alpha, "beta": beta}
    parts = []
    for flops in np.geomspace(1e17, 1e21, budgets):
        D = best_data(alpha, beta, flops) * np.geomspace(1 / spread, spread, sizes)
        parts.append(pd.DataFrame({"train_flops": flops, "num_params": flops / 6 / D, "data_seen": D}))
    table = pd.concat(parts, ignore_index=True)
    clean = get_law("chinchilla").predict(params, table)
    return table.assign(loss=clean * np.exp(noise * np.random.default_rng(seed).standard_normal(len(table))))


# Open-Athena/scaling-law-analysis, results/article/extrapolation_error_data.csv: error of D* at 1e24, in per cent
@pytest.mark.parametrize(
    ("surface", "spread", "error"),
    [
        ("chinchilla", 2, -0.326937803732719),
        ("chinchilla", 4, -1.301125043704300),
        ("chinchilla", 8, -2.902904738135434),
        ("chinchilla", 16, -5.100244551712022),
        ("imbalanced", 2, -1.674747716507073),
        ("imbalanced", 4, -6.497778742083532),
        ("imbalanced", 8, -13.910418584294648),
        ("imbalanced", 16, -23.116308048545221),
        ("symmetric", 2, 0.0),
        ("symmetric", 16, 0.0),
    ],
)
def test_a_parabola_has_the_published_bias_without_noise(surface, spread, error):
    alpha, beta = SURFACES[surface]
    found = fit_isoflops(make_profiles(alpha, beta, spread), curve="parabola", resamples=0)
    bias = 100 * (found.data.at(1e24).value / best_data(alpha, beta, 1e24) - 1)
    assert bias == pytest.approx(error, abs=1e-8)
    assert found.data.exponent.value == pytest.approx(alpha / (alpha + beta), abs=1e-9)  # the bias is in the factor


@pytest.mark.parametrize(("surface", "most"), [("chinchilla", 0.06), ("imbalanced", 0.34)])
def test_a_cubic_is_hardly_biased_and_is_the_default(surface, most):
    alpha, beta = SURFACES[surface]
    found = fit_isoflops(make_profiles(alpha, beta, 8), resamples=0)
    assert found.curve == "cubic"
    assert abs(100 * (found.data.at(1e24).value / best_data(alpha, beta, 1e24) - 1)) < most


# Porian et al. 2024, RefinedWeb: exponents of N* with their R2, from the released summary
PORIAN = {
    ("base", "long", "kaplan", "kaplan"): (0.8353, 0.999),
    ("base", "long", "kaplan", "standard"): (0.7065, 0.998),
    ("base", "short", "kaplan", "standard"): (0.6020, 0.993),
    ("base", "short", "chinchilla", "standard"): (0.5715, 0.998),
    ("tuned", "short", "const", "standard"): (0.4969, 0.998),
}


@pytest.fixture(scope="module")
def porian():
    if not TABLES.is_dir():
        pytest.skip("needs the real data beside the project")
    table = pd.read_csv(TABLES / "porian_refinedweb_isoflop.csv")
    return dict(list(table.groupby(["hparams", "warmup", "decay", "param_count"])))


@pytest.mark.parametrize("stage", PORIAN)
def test_the_weighted_line_through_published_optima_has_the_published_exponent(porian, stage):
    stars = porian[stage].query("kind == 'star'").dropna(subset="n_star")
    trend = fit_trend(stars.flops.to_numpy(), stars.n_star.to_numpy(), sd=stars.n_star_std.to_numpy())
    exponent, r2 = PORIAN[stage]
    assert round(trend.exponent.value, 4) == exponent
    assert trend.r2 == pytest.approx(r2, abs=2.1e-3)


@pytest.mark.parametrize("stage", PORIAN)
def test_akima_through_published_runs_comes_to_the_published_exponent(porian, stage):
    runs = porian[stage].query("kind == 'run'")
    names = {"flops": "train_flops", "n_star": "num_params", "t_star": "data_seen", "loss_star": "loss"}
    found = fit_isoflops(runs[list(names)].rename(columns=names), curve="akima", log_target=True, resamples=0)
    assert found.size.exponent.value == pytest.approx(PORIAN[stage][0], abs=0.012)


def test_a_profile_with_its_lowest_loss_on_the_edge_does_not_count_and_says_so():
    table = make_profiles(0.34, 0.28, 8, budgets=6)
    first = table.train_flops.min()
    optimum = first / 6 / best_data(0.34, 0.28, first)
    cut = table[(table.train_flops > first) | (table.num_params > optimum * 1.2)]
    found = fit_isoflops(cut, resamples=50)
    assert len(found.points) == 5
    assert list(found.skipped) == [pytest.approx(first)]
    (notice,) = [item for item in found.warnings if item.code == "isoflop_edge"]
    assert "smallest size" in notice.text
    assert "add sizes below" in notice.text
    assert found.data.at(1e21).value == pytest.approx(best_data(0.34, 0.28, 1e21), rel=2e-3)


def test_vertices_outside_of_the_sizes_and_maxima_are_no_minima():
    x, one = np.linspace(0.0, 2.0, 9), np.ones((1, 9))
    for degree in (2, 3):
        place, value = find_vertices(x, np.stack([(x - 0.7) ** 2 + 3, (x + 0.5) ** 2, -((x - 1) ** 2)]), one, degree)
        assert place[0] == pytest.approx(0.7)
        assert value[0] == pytest.approx(3.0)
        assert np.isnan(place[1:]).all()
    z = x - 1.0
    place, _ = find_vertices(x, np.array([z**3 - 0.3 * z, z**3 - 0.3 * z + z**2]), np.ones((2, 9)), 3)
    assert np.isnan(place[0])  # a dip beside an end that is lower is no minimum of the profile
    assert place[1] == pytest.approx(1 + (np.sqrt(1.9) - 1) / 3)


def test_too_few_sizes_are_a_reason_and_too_few_budgets_an_error():
    table = make_profiles(0.34, 0.28, 4, sizes=3, budgets=3)
    with pytest.raises(AnalysisError, match=r"3 budgets of which 0 .*3 sizes and a cubic needs 4.*curve='parabola'"):
        fit_isoflops(table)
    found = fit_isoflops(table, curve="parabola", resamples=0)
    assert "few_budgets" in {item.code for item in found.warnings}
    with pytest.raises(AnalysisError, match=r"curve='cubik' is unknown; did you mean 'cubic'"):
        fit_isoflops(table, curve="cubik")
    with pytest.raises(AnalysisError, match="tolerance=2"):
        fit_isoflops(table, tolerance=2.0)
    with pytest.raises(AnalysisError, match="train_flops"):
        fit_isoflops(table.drop(columns="train_flops"))


@pytest.mark.parametrize("options", [{}, {"noise": 0.003}, {"noise": "sd", "weigh": "spread"}, {"weights": "w"}])
def test_intervals_hold_the_truth_and_come_from_both_stages(options):
    table = make_profiles(0.34, 0.28, 6, sizes=9, budgets=6, noise=0.003, seed=4).assign(sd=0.003, w=1.0)
    found = fit_isoflops(table, resamples=300, **options)
    assert found.size.exponent.low < 0.28 / 0.62 < found.size.exponent.high
    assert found.data.exponent.low < 0.34 / 0.62 < found.data.exponent.high
    assert (found.points.low < found.points.num_params).all()
    assert (found.points.num_params < found.points.high).all()
    assert found.size.at(1e24).high / found.size.at(1e24).low > found.size.at(1e19).high / found.size.at(1e19).low
    assert str(found).startswith("isoFLOP profiles (cubic): N* ~ C^0.4")
    again = fit_isoflops(table, resamples=300, **options)
    assert again.size.exponent == found.size.exponent


@pytest.mark.slow
def test_intervals_cover_at_their_nominal_rate():
    hits = []
    for seed in range(200):
        table = make_profiles(0.34, 0.28, 6, sizes=15, noise=0.002, seed=seed)
        exponent = fit_isoflops(table, resamples=300).size.exponent
        hits.append(exponent.low < 0.28 / 0.62 < exponent.high)
    assert 0.9 <= np.mean(hits) <= 0.99


def test_a_budget_whose_runs_differ_in_flops_says_so():
    table = make_profiles(0.34, 0.28, 4)
    assert "uneven_budget" not in {item.code for item in fit_isoflops(table, resamples=0).warnings}
    table["train_flops"] *= np.where(np.arange(len(table)) % 2, 1.0, 1.06)
    (notice,) = [item for item in fit_isoflops(table, resamples=0).warnings if item.code == "uneven_budget"]
    assert notice.text.startswith("runs of 5 budgets (1.03e+17, 1.03e+18,")
    assert "differ by 6% in FLOPs at most, and their losses were moved" in notice.text
    (notice,) = [item for item in fit_isoflops(table, resamples=0, move=False).warnings if item.code == "uneven_budget"]
    assert "give a smaller tolerance" in notice.text


def test_every_budget_keeps_its_means_its_curve_and_the_sizes_around_its_minimum():
    table = make_profiles(0.34, 0.28, 8, sizes=9, budgets=6)
    first = table.train_flops.min()
    optimum = first / 6 / best_data(0.34, 0.28, first)
    cut = table[(table.train_flops > first) | (table.num_params > optimum * 1.2)]
    seeds = pd.concat([cut.assign(loss=cut.loss * factor) for factor in (0.999, 1.001)])
    found = fit_isoflops(seeds, resamples=50)
    edge, *counting = found.valleys
    assert (edge.skip.code, edge.bracket, edge.num_params) == ("isoflop_edge", None, None)
    assert len(edge.grid) == len(edge.curve) > 20  # grey in figures, and drawn all the same
    assert found.skipped == {edge.train_flops: str(edge.skip)}
    for item, row in zip(counting, found.points.itertuples(), strict=True):
        assert item.skip is None
        assert item.runs.tolist() == [2] * 9
        low, high = item.bracket
        assert low <= item.num_params.value <= high
        assert (item.sizes == low).argmax() + 1 == (item.sizes == high).argmax()
        assert (item.num_params.value, item.num_params.low) == (row.num_params, row.low)
        assert item.grid[item.curve.argmin()] == pytest.approx(row.num_params, rel=0.1)
        assert item.curve.min() == pytest.approx(row.loss, rel=1e-4)
        np.testing.assert_allclose(np.interp(item.sizes, item.grid, item.curve), item.losses, rtol=2e-3)


@pytest.mark.parametrize("curve", ["parabola", "akima"])
def test_curves_in_logarithms_are_drawn_in_the_targets_own_unit(curve):
    table = make_profiles(0.34, 0.28, 8, sizes=9)
    for item in fit_isoflops(table, curve=curve, log_target=True, resamples=0).valleys:
        np.testing.assert_allclose(np.interp(item.sizes, item.grid, item.curve), item.losses, rtol=2e-2)


def test_budgets_that_do_not_count_for_one_reason_are_told_together():
    table = make_profiles(0.34, 0.28, 8, budgets=9)
    lost = table[table.train_flops.rank(method="dense") <= 3].groupby("train_flops").head(2)
    found = fit_isoflops(pd.concat([lost, table[table.train_flops.rank(method="dense") > 3]]), resamples=0)
    (notice,) = [item for item in found.warnings if item.code == "isoflop_skipped"]
    assert notice.text.startswith("3 budgets (1e+17, 3.16e+17, 1e+18) do not count: each has 2 sizes")
    assert len(found.skipped) == 3


def test_a_line_through_two_near_budgets_is_weak_and_has_no_number():
    table = make_profiles(0.34, 0.28, 8, sizes=7, budgets=2, noise=0.02, seed=3)
    table["train_flops"] = np.where(table.train_flops > 1e18, 1.2e17, 1e17)
    table["data_seen"] = table.train_flops / (6 * table.num_params)
    found = fit_isoflops(table, curve="parabola", tolerance=0.0, resamples=200)
    weak = {notice.code for notice in found.warnings if notice.is_weak}
    assert {"few_budgets", "unidentified"} <= weak
    assert "exponent of N* not identified" in str(found)
    assert np.isnan(found.size.r2)
    assert found.size.exponent.low < found.size.exponent.high  # the interval stays for programs


def test_budgets_are_joined_within_the_tolerance_and_far_ones_are_extrapolation():
    groups = group_budgets(np.array([1e18, 1.06e18, 1.2e18, 0.99e18]), 0.1)
    assert [sorted(group.tolist()) for group in groups] == [[0, 1, 3], [2]]
    assert check_budget(5e21, (1e18, 1e21)) == []
    assert check_budget(5e22, (1e18, 1e21))[0].code == "extrapolation"
    assert "50 times beyond" in check_budget(5e22, (1e18, 1e21))[0].text


def make_edges(sizes=4, budgets=3):
    """Profiles whose sizes all lie below the optimum."""
    table = make_profiles(0.34, 0.28, 4, sizes=2 * sizes, budgets=budgets)
    return table.groupby("train_flops").tail(sizes)  # their data falls with their place


def test_profiles_without_a_minimum_inside_have_their_valleys_all_the_same():
    edges = make_edges()
    with pytest.raises(AnalysisError, match=r"3 budgets of which 0 .* on the edge, at the largest size"):
        fit_isoflops(edges)
    valleys = find_valleys(edges, resamples=20)
    assert [item.skip.code for item in valleys] == ["isoflop_edge"] * 3
    assert [len(item.curve) > 20 for item in valleys] == [True] * 3
    short = find_valleys(edges.groupby("train_flops").head(1), resamples=20)
    assert [(item.skip.code, len(item.sizes), len(item.grid)) for item in short] == [("isoflop_skipped", 1, 0)] * 3
    assert find_valleys(edges.assign(status="failed")) == ()


@pytest.mark.parametrize("options", [{}, {"noise": 0.003}, {"weights": "w"}])
def test_a_fit_is_the_lines_through_the_valleys(options):
    table = make_profiles(0.34, 0.28, 6, sizes=9, budgets=6, noise=0.003, seed=4).assign(w=1.0)
    whole = fit_isoflops(table, resamples=100, weigh="spread", **options)
    parts = fit_valleys(find_valleys(table, resamples=100, **options), weigh="spread")
    assert whole.points.equals(parts.points)
    assert (whole.size.exponent, whole.warnings, whole.curve) == (parts.size.exponent, parts.warnings, "cubic")
    with pytest.raises(AnalysisError, match="weigh='spred' is unknown"):
        fit_isoflops(table, weigh="spred")


def make_uneven(surface, how, seed=0, noise=0.0, sizes=7):
    """Profiles of which runs of one budget differ by a quarter in FLOPs: at random, or more for the small ones."""
    alpha, beta = SURFACES[surface]
    table = make_profiles(alpha, beta, 5, sizes=sizes)
    factor = np.tile(np.geomspace(1, 1.25, sizes), 5)  # sizes fall within each budget
    if how == "random":
        factor = np.random.default_rng(seed).permutation(factor)
    params = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": alpha, "beta": beta}
    table = table.assign(name=table.train_flops.map("C = {:.0e}".format), train_flops=table.train_flops * factor)
    table["data_seen"] *= factor
    drawn = np.random.default_rng(seed).standard_normal(len(table))
    return table.assign(loss=get_law("chinchilla").predict(params, table) * np.exp(noise * drawn))


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("how", ["random", "small"])
def test_uneven_budgets_have_their_best_sizes_where_losses_are_moved_to_the_mean(surface, how):
    alpha, beta = SURFACES[surface]
    off = {}
    for move in (False, True):
        found = fit_isoflops(make_uneven(surface, how), move=move, resamples=0)
        assert len(found.points) == 5
        flops, sizes, data = (found.points[name].to_numpy() for name in ("train_flops", "num_params", "data_seen"))
        best = best_data(alpha, beta, flops)
        off[move] = np.sqrt((np.log(sizes / (flops / 6 / best)) ** 2).mean())
        assert not move or data == pytest.approx(flops / 6 / sizes, rel=1e-9)  # of the mean, as the size is
        assert {item.is_moved for item in found.valleys} == {move}
    assert off[True] < 0.02  # as of even budgets, by the cubic's own bias
    assert off[False] > 5 * off[True]


@pytest.mark.slow
def test_intervals_of_moved_losses_cover_at_their_nominal_rate():
    sizes, exponents = [], []
    for seed in range(100):
        found = fit_isoflops(make_uneven("chinchilla", "small", seed, 0.002, sizes=11), resamples=200)
        best = [flops / 6 / best_data(0.34, 0.28, flops) for flops in found.points.train_flops]
        sizes.append(np.mean((found.points.low < best) & (best < found.points.high)))
        exponents.append(found.size.exponent.low < 0.28 / 0.62 < found.size.exponent.high)
    assert 0.9 <= np.mean(sizes) <= 0.99  # 0.35 where losses stay as they are
    assert np.mean(exponents) >= 0.93


def test_even_budgets_stay_as_they_are():
    table = make_profiles(0.34, 0.28, 6, sizes=9, noise=0.003)
    table["train_flops"] *= np.where(np.arange(len(table)) % 2, 1.0, 1.015)
    one, two = (fit_isoflops(table, move=move, resamples=50) for move in (True, False))
    assert one.points.equals(two.points)
    assert not any(item.is_moved for item in one.valleys)


@pytest.mark.parametrize(("ratio", "wanted"), [(1.24, 0.25), (1.4, 0.5), (1.0, 0.25)])
def test_a_tolerance_that_is_chosen_splits_no_uneven_budget_and_joins_no_ladder(ratio, wanted):
    sizes = np.geomspace(1, 10, 7)
    flops = np.outer([1e18, 3e18, 9e18], np.geomspace(1, ratio, 7)).ravel()
    chosen = choose_tolerance(flops, np.outer([1, 2, 4], sizes).ravel())
    assert chosen == wanted
    assert [len(places) for places in group_budgets(flops, chosen)] == [7, 7, 7]
    ladder = np.repeat(1e18 * 2 ** (np.arange(6) / 2), 7)  # a factor of 1.41 from one to the next
    assert choose_tolerance(ladder, np.outer(1.2 ** np.arange(6), sizes).ravel()) == 0.25


def test_budgets_are_joined_by_a_tolerance_or_by_name():
    table = make_uneven("chinchilla", "small", sizes=9)
    auto = find_valleys(table, resamples=0)
    assert [len(item.sizes) for item in auto] == [9] * 5
    assert len(find_valleys(table, tolerance=0.1, resamples=0)) > 5
    named = find_valleys(table, budget="name", tolerance=0.0, resamples=0)
    assert [item.num_params for item in named] == [item.num_params for item in auto]
    with pytest.raises(AnalysisError, match="budget='nam' is unknown; did you mean 'name'"):
        find_valleys(table, budget="nam")
    with pytest.raises(AnalysisError, match="names none in 1 rows"):
        find_valleys(table.assign(name=table.name.where(table.index > 0)), budget="name")
    with pytest.raises(AnalysisError, match="tolerance='aut' is unknown; did you mean 'auto'"):
        find_valleys(table, tolerance="aut")
