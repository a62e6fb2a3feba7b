"""Claims about the coordinate check: what grows fails, what stops learning fails, and what may fall does not."""

import pytest

from analysis.checks.coordinates import MAX_SLOPE, MIN_UPDATE_SLOPE, fit_slopes, judge, plot_coordinates


def make_rows(powers, axis="width", parametrization="mup"):
    """Rows of sizes that follow powers of the width, `{(kind, path): power}`, after two steps; one value for t = 0."""
    return [
        {
            "parametrization": parametrization, "axis": axis, "value": width, "seed": 0, "step": step, "path": path,
            "kind": kind, "l1": 2.0 * width ** (power if step else 0.0),
        }
        for (kind, path), power in powers.items()
        for width in (64, 128, 256)
        for step in (0, 1, 2)
    ]  # fmt: skip


SOUND = {("hidden", "block"): 0.0, ("update", "block"): 0.0, ("logits", "head"): 0.0}


def judge_powers(axis="width", **powers):
    names = {"hidden": ("hidden", "block"), "update": ("update", "block"), "logits": ("logits", "head")}
    (verdict,) = judge(fit_slopes(make_rows({**SOUND, **{names[kind]: power for kind, power in powers.items()}}, axis)))
    return verdict


def test_a_slope_is_the_power_and_what_overflows_has_an_infinite_one():
    slopes = fit_slopes(make_rows({("hidden", "block"): 0.3}))
    assert [row["slope"] for row in slopes] == pytest.approx([0.0, 0.3, 0.3])
    rows = make_rows({("hidden", "block"): 0.3})
    rows[-1]["l1"] = float("inf")
    assert fit_slopes(rows)[-1]["slope"] == float("inf")


def test_flat_sizes_pass():
    verdict = judge_powers()
    assert (verdict["passes"], verdict["worst"]) == (True, None)


@pytest.mark.parametrize("kind", ["hidden", "update", "logits"])
def test_what_grows_fails_and_is_named(kind):
    verdict = judge_powers(**{kind: MAX_SLOPE + 0.05})
    assert not verdict["passes"]
    assert verdict["worst"].startswith(f"{kind} {'head' if kind == 'logits' else 'block'}, t = ")
    assert judge_powers(**{kind: MAX_SLOPE - 0.05})["passes"]


def test_logits_may_fall_but_hidden_changes_may_not_vanish():
    assert judge_powers(logits=-0.5)["passes"]
    verdict = judge_powers(update=MIN_UPDATE_SLOPE - 0.05)
    assert (verdict["passes"], verdict["frozen"]) == (False, pytest.approx(MIN_UPDATE_SLOPE - 0.05))


def test_over_depth_activations_may_fall_and_over_width_they_may_not():
    assert judge_powers("depth", hidden=-0.6)["passes"]
    assert not judge_powers("width", hidden=-0.6)["passes"]


def test_the_figure_has_a_panel_for_each_verdict_with_its_outcome():
    rows = make_rows(SOUND) + make_rows({**SOUND, ("hidden", "block"): 0.5}, parametrization="standard")
    figure = plot_coordinates(rows, judge(fit_slopes(rows)), "title")
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["μP, width: passes", "standard, width: fails"]
    assert all(len(panel.lines) == len(SOUND) for panel in figure.axes)
    assert {tuple(line.get_ydata()) for line in figure.axes[0].lines} == {(1.0, 1.0, 1.0)}
