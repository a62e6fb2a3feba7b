"""Claims about transfer of learning rates: optima by mean over seeds, how far they move, and what diverged."""

import pytest

from analysis.checks.transfer import find_optima, mean_losses, plot_transfer


def make_rows(losses, parametrization="mup"):
    return [
        {
            "parametrization": parametrization, "axis": "width", "value": size, "seed": seed, "peak_lr": lr,
            "loss": loss + 0.1 * seed,
        }
        for (size, lr), loss in losses.items()
        for seed in (0, 1)
    ]  # fmt: skip


LOSSES = {
    (64, 0.01): 3.0, (64, 0.02): 2.0, (64, 0.04): 2.5,
    (512, 0.01): 1.5, (512, 0.02): 1.8, (512, 0.04): float("inf"),
}  # fmt: skip


def test_losses_are_means_over_seeds_and_infinite_where_one_diverged():
    rows = make_rows(LOSSES)
    assert mean_losses(rows)["mup", "width"][64][0.02] == pytest.approx(2.05)
    rows[0]["loss"] = float("nan")
    assert mean_losses(rows)["mup", "width"][64][0.01] == float("inf")


def test_an_optimum_at_the_end_of_the_rates_is_not_inside_and_moves_by_octaves():
    small, large = find_optima(make_rows(LOSSES))
    assert (small["peak_lr"], small["moved"], small["inside"]) == (0.02, 0.0, True)
    assert (large["peak_lr"], large["moved"], large["inside"]) == (0.01, -1.0, False)


def test_the_figure_has_a_panel_for_each_parametrisation_and_a_line_for_each_size():
    figure = plot_transfer(make_rows(LOSSES) + make_rows(LOSSES, "standard"), "title")
    panels = [panel for panel in figure.axes if panel.get_visible()]
    assert [panel.get_title(loc="left") for panel in panels] == ["μP, over width", "standard, over width"]
    curves = [[line for line in panel.lines if line.get_label() in ("64", "512")] for panel in panels]
    assert [len(lines) for lines in curves] == [2, 2]
