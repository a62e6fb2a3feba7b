"""Claims about what figures share: numbers and names on axes, and files by their suffix."""

from matplotlib.figure import Figure

from analysis.figures.style import format_size, name_axis, tidy_log_axis
from analysis.fitting.fit_law import fit_law


def test_numbers_on_axes_are_short():
    assert [format_size(value) for value in (0, 0.05, 3000, 1e6, 2e7, 1e-5)] == [
        "0", "0.05", "3,000", "1,000,000", "2·10⁷", "10⁻⁵",
    ]  # fmt: skip


def test_an_axis_is_named_in_words_with_the_laws_unit():
    fit = fit_law("power", {"data_unique": [10.0, 100.0, 1000.0]}, [1.0, 0.5, 0.25])
    assert name_axis(fit, "data_unique") == "unique data m"
    assert name_axis(fit, "r2") == "R²"
    assert name_axis(fit, "their_metric") == "their_metric"
    accuracy = fit_law("lcdb_lin2", {"data_unique": [10.0, 100.0, 1000.0]}, [0.1, 0.2, 0.3])
    assert name_axis(accuracy, "data_unique") == "unique data m (examples)"


def test_a_logarithmic_axis_has_few_labels_however_short_it_is():
    for low, high in ((101.0, 118.0), (100.0, 900.0), (1.0, 1e9)):
        axis = Figure().subplots().xaxis
        axis.axes.set(xscale="log", xlim=(low, high))
        tidy_log_axis(axis, low, high)
        inside = [place for place in axis.get_majorticklocs() if low <= place <= high]
        assert 2 <= len(inside) <= 12
        assert not any(axis.get_minor_formatter()(place) for place in inside)
